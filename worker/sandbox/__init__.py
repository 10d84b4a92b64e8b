"""An authorization server that rotates, detects reuse and misbehaves on order: for the demo, tests and drills.

It stands on the far side of the network, so it imports nothing of the rest of `worker` but the `Secret` type.
Where to look: `profiles` says what it imitates, `token_meaning` decides what a presented token means, `misbehaviour`
is the closed set of faults, `control` is the class that drives it, `server` runs it.
"""
