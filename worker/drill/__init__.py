"""The fault campaign, `evergrant drill`: real processes, a real database and broker, and faults by a seeded plan.

`plan` says which fault comes when (pure), `faults` commits them, `world` holds the processes, `campaign` is the loop,
`views` reads what our database, the provider and the workers say afterwards, `verdict` compares it with what is
promised (pure), `report` prints it.
"""
