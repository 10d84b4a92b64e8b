"""Which refresh tokens grants were adopted with, so that none is adopted twice."""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "adopted_tokens",
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("grant_id", sa.Uuid(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("fingerprint", "grant_id", name=op.f("pk_adopted_tokens")),
    )


def downgrade() -> None:
    op.drop_table("adopted_tokens")
