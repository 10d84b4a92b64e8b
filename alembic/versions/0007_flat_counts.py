"""Counts of grants that nobody has to read the table for, indexes for what is shown, and how tables are kept tidy."""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# Every statement that changes how many grants there are adds by how much. A statement that only claims or settles does
# not touch the state, or sets it to what it was: then the row trigger's condition is all it costs. A trigger with
# transition tables would keep every such row a second time.
_TRIGGERS = {
    "count_arrived_grants": (
        "AFTER INSERT ON grants REFERENCING NEW TABLE AS arrived FOR EACH STATEMENT",
        """
        INSERT INTO grant_counts (client, state, grants)
        SELECT client, state, count(*) FROM arrived GROUP BY client, state;
        """,
    ),
    "count_removed_grants": (
        "AFTER DELETE ON grants REFERENCING OLD TABLE AS removed FOR EACH STATEMENT",
        """
        INSERT INTO grant_counts (client, state, grants)
        SELECT client, state, -count(*) FROM removed GROUP BY client, state;
        """,
    ),
    "count_changed_grants": (
        """
        AFTER UPDATE OF state, client ON grants FOR EACH ROW
        WHEN (OLD.state IS DISTINCT FROM NEW.state OR OLD.client IS DISTINCT FROM NEW.client)
        """,
        """
        INSERT INTO grant_counts (client, state, grants)
        VALUES (OLD.client, OLD.state, -1), (NEW.client, NEW.state, 1);
        """,
    ),
    # Not by emptying the counts: a fold that is under way puts back in their place what this statement cannot see.
    "count_truncated_grants": (
        "AFTER TRUNCATE ON grants FOR EACH STATEMENT",
        """
        INSERT INTO grant_counts (client, state, grants)
        SELECT client, state, -sum(grants) FROM grant_counts GROUP BY client, state HAVING sum(grants) <> 0;
        """,
    ),
}

# `worker/storage/table_upkeep.py` says what each is for.
_APPENDED = {
    "autovacuum_vacuum_scale_factor": "0.02",
    "autovacuum_vacuum_insert_scale_factor": "0.02",
    "autovacuum_vacuum_cost_limit": "2000",
}
_SMALL = {
    "autovacuum_vacuum_scale_factor": "0",
    "autovacuum_vacuum_threshold": "200",
    "autovacuum_vacuum_cost_delay": "0",
}
_STORAGE = {
    "grants": {
        "autovacuum_vacuum_scale_factor": "0.02",
        "autovacuum_vacuum_insert_scale_factor": "0.05",
        "autovacuum_analyze_scale_factor": "0.05",
        "autovacuum_vacuum_cost_delay": "2",
        "autovacuum_vacuum_cost_limit": "2000",
    },
    "client_status": {"fillfactor": "50", **_SMALL},
    "rotations": _APPENDED,
    "events": _APPENDED,
}


def upgrade() -> None:
    op.create_index(
        "ix_grants_put_off",
        "grants",
        ["client", "access_expires_at"],
        postgresql_where=sa.text("state = 'active' AND (failures > 0 OR strikes > 0)"),
    )
    op.create_index("ix_events_shown", "events", ["id"], postgresql_where=sa.text("type <> 'grant.created'"))
    # Once pages at the front are freed and used again, time does not follow place any more; ids do follow time.
    op.drop_index("ix_rotations_at", table_name="rotations", postgresql_using="brin")
    op.create_table(
        "grant_counts",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("grants", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_grant_counts")),
        postgresql_with=_SMALL,
    )
    for name, (when, body) in _TRIGGERS.items():
        # With the search path of now, whatever a session that changes grants has for its own.
        op.execute(f"""
            CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $body$
            BEGIN
                {body}
                RETURN NULL;
            END
            $body$
        """)
        op.execute(f"CREATE TRIGGER {name} {when} EXECUTE FUNCTION {name}()")
    # From here on no other transaction changes grants till this one has ended: nothing is missed or counted twice.
    op.execute(
        "INSERT INTO grant_counts (client, state, grants) SELECT client, state, count(*) FROM grants GROUP BY client, state"
    )
    for table, parameters in _STORAGE.items():
        settings = ", ".join(f"{name} = {value}" for name, value in parameters.items())
        op.execute(f"ALTER TABLE {table} SET ({settings})")


def downgrade() -> None:
    for table, parameters in _STORAGE.items():
        op.execute(f"ALTER TABLE {table} RESET ({', '.join(parameters)})")
    for name in _TRIGGERS:
        op.execute(f"DROP TRIGGER {name} ON grants")
        op.execute(f"DROP FUNCTION {name}()")
    op.drop_table("grant_counts")
    op.create_index("ix_rotations_at", "rotations", ["at"], unique=False, postgresql_using="brin")
    op.drop_index("ix_events_shown", table_name="events", postgresql_where=sa.text("type <> 'grant.created'"))
    op.drop_index(
        "ix_grants_put_off",
        table_name="grants",
        postgresql_where=sa.text("state = 'active' AND (failures > 0 OR strikes > 0)"),
    )
