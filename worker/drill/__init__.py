"""The fault campaign, `evergrant drill`: real processes, a real database and broker, and faults by a seeded plan.

`plan` says which fault comes when (pure), `faults` commits them, `world` holds the processes, `campaign` is the loop,
`reading` takes the `views` of our database, the provider and the workers afterwards, `told` searches what they have
written for secrets (`secrecy`, pure), `verdict` compares it all with what is promised (pure), `report` prints it.
"""
