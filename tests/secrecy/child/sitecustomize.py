"""Loaded by every Python that the tests start, for it is first on PYTHONPATH: notes secrets and the command line."""

import os
import sys

if os.environ.get("SECRECY_FOLDER"):
    try:
        from tests.secrecy.ledger import note_secrets
        from tests.secrecy.told import tell

        tell("command lines", " ".join(sys.orig_argv))
        note_secrets()
    except ImportError:
        pass  # an interpreter without Evergrant, or with another than the checkout's
