"""Which keys seal what is here, so that a ring that lacks one is refused at the start and not at the first use."""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

# Pages of 8 kB that one statement reads: some ten thousand grants, far below the limit on a statement.
_PAGES = 10_000


def upgrade() -> None:
    op.create_table(
        "sealing_keys",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("identity", sa.Text(), nullable=True),
        sa.Column("first_used_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sealing_keys")),
    )
    # Reading takes no lock that anybody waits for; what is sealed meanwhile, its process notes when it starts next.
    connection = op.get_bind()
    pages = connection.execute(sa.text("SELECT pg_relation_size('grants') / 8192")).scalar_one()
    found = set()
    for first in range(0, pages + 1, _PAGES):
        rows = connection.execute(
            sa.text("""
                SELECT DISTINCT convert_from(substring(refresh_token FROM 3 FOR get_byte(refresh_token, 1)), 'SQL_ASCII')
                  FROM grants
                 WHERE ctid >= CAST(:first AS tid) AND ctid < CAST(:next AS tid)
                   AND length(refresh_token) > 30 AND get_byte(refresh_token, 0) = 1
            """),
            {"first": f"({first},0)", "next": f"({first + _PAGES},0)"},
        )
        found.update(rows.scalars())
    for key_id in sorted(found):
        connection.execute(sa.text("INSERT INTO sealing_keys (id) VALUES (:id)"), {"id": key_id})


def downgrade() -> None:
    op.drop_table("sealing_keys")
