"""What the console searches by, without keeping anybody from writing meanwhile; and its figures by the hour."""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

#: Access tokens that were given out are nearly all of the audit log, and nearly never what somebody looks for.
_ACTS = "act <> 'access_token.give'"
_INDEXES = {
    "ix_grants_subject_begins": "grants (lower(subject) text_pattern_ops)",
    "ix_grants_account_begins": "grants (lower(account) text_pattern_ops) WHERE account IS NOT NULL",
    "ix_grants_email_begins": "grants (lower(email) text_pattern_ops) WHERE email IS NOT NULL",
    "ix_grants_since": "grants (state_since, id)",
    "ix_grants_reason": "grants (state_reason, state_since) WHERE state_reason IS NOT NULL",
    "ix_reconsent_mails_failed": "reconsent_mails (created_at, id) WHERE state IN ('refused', 'bounced', 'given_up')",
    "ix_reconsent_mails_open": "reconsent_mails (created_at, id) WHERE state IN ('waiting', 'sending')",
    "ix_reconsent_mails_client": "reconsent_mails (client, created_at, id)",
    "ix_reconsent_mails_answered": "reconsent_mails (recipient, coalesce(sent_at, last_error_at)) "
    "WHERE state IN ('sent', 'refused', 'bounced')",
    "ix_audit_log_acts": f"audit_log (id) WHERE {_ACTS}",
    "ix_audit_log_acts_by_act": f"audit_log (act, id) WHERE {_ACTS}",
    "ix_audit_log_acts_by_actor": f"audit_log (actor, id) WHERE {_ACTS}",
    "ix_audit_log_acts_on_client": f"audit_log (client, id) WHERE {_ACTS}",
    "ix_audit_log_acts_on_grant": f"audit_log (grant_id, id) WHERE grant_id IS NOT NULL AND {_ACTS}",
}
#: Every other wait is short, and an index of millions of rows is not.
_LIMITS = {"names": ["lock_timeout", "statement_timeout"]}


def upgrade() -> None:
    # Each by itself and beside all writers, as long as it takes; the limits that were set come back after it.
    # An attempt that is cut off may leave behind what is no index: it goes at the next.
    limits = op.get_bind().execute(sa.text("SELECT name, setting FROM pg_settings WHERE name = ANY(:names)"), _LIMITS)
    before = [{"name": limit.name, "setting": limit.setting} for limit in limits]
    with op.get_context().autocommit_block():
        for name in _LIMITS["names"]:
            op.execute(f"SET {name} = 0")
        for name, columns in _INDEXES.items():
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(f"CREATE INDEX CONCURRENTLY {name} ON {columns}")
        op.get_bind().execute(sa.text("SELECT set_config(:name, :setting, false)"), before)
    # After the block, which commits what comes before it: with the version, or not at all.
    op.create_table(
        "refresh_hours",
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("reporter", sa.Uuid(), nullable=False),
        sa.Column("refreshes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("hour", "client", "outcome", "reporter", name=op.f("pk_refresh_hours")),
    )
    op.create_table(
        "forecasts",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("grants", sa.BigInteger(), nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("kind", "at", "client", name=op.f("pk_forecasts")),
    )


def downgrade() -> None:
    for name in _INDEXES:
        op.drop_index(name)
    op.drop_table("forecasts")
    op.drop_table("refresh_hours")
