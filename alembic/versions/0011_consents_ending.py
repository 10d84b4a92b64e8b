"""The consents that are about to end are counted for a gauge."""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_reconsent_mails_ending",
        "reconsent_mails",
        ["client", "death"],
        postgresql_where=sa.text("kind = 'expiring'"),
    )


def downgrade() -> None:
    op.drop_index("ix_reconsent_mails_ending", table_name="reconsent_mails")
