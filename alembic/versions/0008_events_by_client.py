"""Events are followed client by client."""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_events_client_id", "events", ["client", "id"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_events_client_id", table_name="events")
