r"""Writes the grants that social-auth-app-django has stored as JSON Lines, for `evergrant grants import`.

    DJANGO_SETTINGS_MODULE=mysite.settings python social_auth_app_django.py google-oauth2=google-main \
        | evergrant grants import -

Run it where the project runs, in its environment. Each argument names a backend of Python Social Auth's, and the
Evergrant client that its tokens were issued to. A backend keeps a refresh token where its EXTRA_DATA, or the project's
setting SOCIAL_AUTH_…_EXTRA_DATA, names it; associations without one are left out and counted.
"""

from __future__ import annotations

import argparse
import json
import sys
from datetime import datetime, timezone

import django

#: Python Social Auth's own measure: more seconds than two years have are an instant, and no time that is left.
LONGEST_LIFE = 63_072_000


def main() -> int:
    """Write a line for each grant and say on standard error how many there were."""
    parser = argparse.ArgumentParser(description="Export Python Social Auth's tokens as JSON Lines.")
    parser.add_argument("clients", nargs="+", metavar="BACKEND=CLIENT", help="such as google-oauth2=google-main")
    parser.add_argument(
        "--subject",
        choices=["user", "account"],
        default="user",
        help="who a grant is for: the user's primary key, or the account at the provider where users have several",
    )
    arguments = parser.parse_args()
    clients = dict(pair.split("=", 1) for pair in arguments.clients if "=" in pair)
    if len(clients) < len(arguments.clients):
        parser.error("each argument must be BACKEND=CLIENT, and name another backend")
    if sys.stdout.isatty():
        parser.error("the lines hold tokens: send them into a pipe or a file")

    django.setup()
    from social_django.models import UserSocialAuth

    written = without = 0
    associations = UserSocialAuth.objects.filter(provider__in=clients).select_related("user").order_by("pk")
    for association in associations.iterator(chunk_size=1000):
        data = association.extra_data
        data = json.loads(data or "{}") if isinstance(data, str) else data  # text where an old version wrote it
        if not data.get("refresh_token"):
            without += 1
            continue
        print(json.dumps(line(association, data, clients, arguments.subject)))
        written += 1
    print(f"{written} grants written, {without} associations without a refresh token left out", file=sys.stderr)
    return 0


def line(association, data, clients, subject):
    """Return an association as a line; what is not known is left out."""
    user = association.user
    fields = {
        "client": clients[association.provider],
        "subject": str(user.pk) if subject == "user" else association.uid,
        "refresh_token": data["refresh_token"],
        "access_token": data.get("access_token"),
        "access_expires_at": access_expires_at(data),
        "scopes": data.get("scope"),
        "account": association.uid,
        "email": getattr(user, user.get_email_field_name(), None),
    }
    return {name: value for name, value in fields.items() if value}


def access_expires_at(data):
    """Return when the access token ends: an instant, or a time from when the owner was last authenticated."""
    try:
        if data.get("expires_on"):
            return instant(int(data["expires_on"]))
        seconds = int(data.get("expires_in") or data.get("expires") or 0)
        if seconds > LONGEST_LIFE:
            return instant(seconds)
        return instant(int(data["auth_time"]) + seconds) if seconds and data.get("auth_time") else None
    except (TypeError, ValueError):
        return None


def instant(seconds):
    """Return seconds since 1970 as text."""
    return datetime.fromtimestamp(seconds, tz=timezone.utc).isoformat()


if __name__ == "__main__":
    sys.exit(main())
