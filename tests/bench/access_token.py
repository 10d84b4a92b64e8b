"""`python -m tests.bench.access_token`: the part of the bench that asks for access tokens, with the bench's options."""

from __future__ import annotations

import sys

from tests.bench.__main__ import main

if __name__ == "__main__":
    sys.argv[1:1] = ["--only", "access-token"]
    sys.exit(main())
