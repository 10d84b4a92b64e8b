"""An operator says of a client's deaths that they are real: for a while the brake does not object to them."""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("client_status", sa.Column("brake_overruled_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("client_status", "brake_overruled_at")
