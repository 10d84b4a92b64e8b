"""Of what the console searches by, only what must be costs a rotation an index entry: every settle writes all of them."""

from __future__ import annotations

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute("SET lock_timeout = 0")
        op.execute("SET statement_timeout = 0")
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS ix_grants_account_begins")
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS ix_grants_since")
        op.execute("CREATE INDEX CONCURRENTLY ix_grants_since ON grants (state_since, id) WHERE state <> 'active'")
        op.execute("SET lock_timeout = '5s'")
        op.execute("SET statement_timeout = '60s'")


def downgrade() -> None:
    op.drop_index("ix_grants_since")
    op.execute("CREATE INDEX ix_grants_since ON grants (state_since, id)")
    op.execute(
        "CREATE INDEX ix_grants_account_begins ON grants (lower(account) text_pattern_ops) WHERE account IS NOT NULL"
    )
