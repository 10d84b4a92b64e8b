"""Events are followed client by client; a lane of deliveries is found by its own name."""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_WAITING = sa.text("dead_at IS NULL")


def upgrade() -> None:
    op.create_index("ix_events_client_id", "events", ["client", "id"], unique=False)
    op.drop_index("ix_webhook_deliveries_lane", table_name="webhook_deliveries")
    op.execute("UPDATE webhook_deliveries SET lane = endpoint || ' ' || lane")
    op.create_index("ix_webhook_deliveries_lane", "webhook_deliveries", ["lane", "event_id"], postgresql_where=_WAITING)


def downgrade() -> None:
    op.drop_index("ix_webhook_deliveries_lane", table_name="webhook_deliveries")
    op.execute("UPDATE webhook_deliveries SET lane = split_part(lane, ' ', 2)")
    op.create_index(
        "ix_webhook_deliveries_lane", "webhook_deliveries", ["endpoint", "lane", "event_id"], postgresql_where=_WAITING
    )
    op.drop_index("ix_events_client_id", table_name="events")
