"""What the console searches by, without keeping anybody from writing meanwhile; and its figures by the hour."""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_INDEXES = {
    "ix_grants_subject_begins": "grants (lower(subject) text_pattern_ops)",
    "ix_grants_account_begins": "grants (lower(account) text_pattern_ops) WHERE account IS NOT NULL",
    "ix_grants_email_begins": "grants (lower(email) text_pattern_ops) WHERE email IS NOT NULL",
    "ix_grants_since": "grants (state_since, id)",
    "ix_grants_reason": "grants (state_reason, state_since) WHERE state_reason IS NOT NULL",
    "ix_reconsent_mails_failed": "reconsent_mails (created_at, id) WHERE state IN ('refused', 'bounced', 'given_up')",
}


def upgrade() -> None:
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
    # Each by itself and beside all writers. What an attempt that was cut off has left behind is not an index: it goes.
    with op.get_context().autocommit_block():
        op.execute("SET lock_timeout = 0")
        op.execute("SET statement_timeout = 0")
        for name, columns in _INDEXES.items():
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(f"CREATE INDEX CONCURRENTLY {name} ON {columns}")
        op.execute("SET lock_timeout = '5s'")
        op.execute("SET statement_timeout = '60s'")


def downgrade() -> None:
    for name in _INDEXES:
        op.drop_index(name)
    op.drop_table("forecasts")
    op.drop_table("refresh_hours")
