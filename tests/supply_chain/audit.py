"""Known vulnerabilities of what is installed: `make audit`. Where nobody can be asked it says so, and passes.

Left to itself, pip-audit counts a package that it could not ask about as one without vulnerabilities, and ends with 0.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any, Final

import httpx

from tests.supply_chain.tools import run

#: Of the Open Source Vulnerabilities database (https://google.github.io/osv.dev/post-v1-query/).
OSV: Final = "https://api.osv.dev/v1/query"
#: What users install: with the embedded servers, and as the image does.
LOCKS: Final = ("requirements.lock", "requirements-base.lock")
_ASK_S: Final = 15.0
_QUESTION: Final = {"package": {"name": "pip", "ecosystem": "PyPI"}, "version": "26.0"}


def main(arguments: Sequence[str]) -> int:
    """Audit the locks, say what came of it and return the exit code: 1 where a vulnerability is known, or it failed."""
    parser = argparse.ArgumentParser(prog="make audit")
    parser.add_argument("--osv-url", default=OSV, help="where advisories are asked for")
    parser.add_argument(
        "--ignore-vuln", action="append", default=[], help="one that was looked at and does not concern us"
    )
    options = parser.parse_args(arguments)
    why_not = _why_nobody_can_be_asked(options.osv_url)
    if why_not is not None:
        sys.stdout.write(f"no advisory data reachable, not audited: {why_not}\n")
        return 0
    ignored = [word for one in options.ignore_vuln for word in ("--ignore-vuln", one)]
    how = [
        "--disable-pip",
        "-f",
        "json",
        "--progress-spinner",
        "off",
        "-s",
        "osv",
        "--osv-url",
        options.osv_url,
        *ignored,
    ]
    packages: dict[str, dict[str, Any]] = {}
    for lock in LOCKS:
        ended = run("pip_audit", *how, "-r", lock)
        try:
            packages |= {one["name"]: one for one in json.loads(ended.stdout)["dependencies"]}
        except (ValueError, KeyError):
            sys.stderr.write(f"pip-audit failed on {lock}:\n{ended.stderr}\n")
            return 1
    return _told(list(packages.values()))


def _why_nobody_can_be_asked(url: str) -> str | None:
    try:
        answer = httpx.post(url, json=_QUESTION, timeout=_ASK_S)
    except httpx.TransportError as error:
        return f"{url}: {type(error).__name__}"
    return None if answer.is_success else f"{url} answers {answer.status_code}"


def _told(packages: Sequence[dict[str, Any]]) -> int:
    asked = [one for one in packages if "skip_reason" not in one]
    for one in packages:
        for found in one.get("vulns", []):
            fixed = ", ".join(found["fix_versions"]) or "none yet"
            sys.stdout.write(f"{one['name']} {one['version']}: {found['id']}, fixed in: {fixed}\n")
        if "skip_reason" in one:
            sys.stdout.write(f"{one['name']}: not audited, {one['skip_reason']}\n")
    count = sum(len(one["vulns"]) for one in asked)
    sys.stdout.write(f"{len(asked)} packages audited, {count} known vulnerabilities\n")
    return 1 if count or len(asked) < len(packages) or not asked else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
