"""Every run of the tests ends with a search: no secret that was used stands in anything that was told.

`ledger` notes the secrets: each `Secret` that is made, in this process and, by `child/sitecustomize.py`, in every
Python that it starts. `told` keeps what would be lost: output of tests and commands, answers, mails, traces, webhooks,
exceptions, command lines. What is written to the tests' temporary folder lies there. `places` says where which secret
may stand, and `plugin` makes pytest do all of it. The search itself is the one of the drill (`worker.drill.secrecy`).
"""
