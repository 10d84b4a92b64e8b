"""PostgreSQL's side: tables, sealing, and the guarded statements that change a grant."""
