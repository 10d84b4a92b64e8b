"""Coming back: where a grant's account was read, where an owner goes on to, and what came of a consent."""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("grants", sa.Column("account_source", sa.Text(), nullable=True))
    op.create_index(
        "ix_grants_account", "grants", ["client", "account"], postgresql_where=sa.text("account IS NOT NULL")
    )
    op.add_column("authorization_requests", sa.Column("return_to", sa.Text(), nullable=True))
    op.add_column("authorization_requests", sa.Column("ended", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("authorization_requests", "ended")
    op.drop_column("authorization_requests", "return_to")
    op.drop_index("ix_grants_account", table_name="grants")
    op.drop_column("grants", "account_source")
