"""What is in flight is counted by a function: the claim asks for it in the statement that locks the client's row.

A function that may change sees what was committed while the statement around it waited for the lock. A count within the
statement itself would miss what a claim beside it had just taken.
"""

from __future__ import annotations

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_COUNT = """
CREATE FUNCTION grants_in_flight(whose text) RETURNS bigint LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT AS $$
BEGIN
    RETURN (SELECT count(*) FROM grants WHERE client = whose AND leased_until IS NOT NULL);
END
$$
"""


def upgrade() -> None:
    op.execute(_COUNT)


def downgrade() -> None:
    op.execute("DROP FUNCTION grants_in_flight(text)")
