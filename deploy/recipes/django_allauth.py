"""Writes the grants that django-allauth has stored as JSON Lines, for `evergrant grants import`.

    DJANGO_SETTINGS_MODULE=mysite.settings python django_allauth.py google=google-main | evergrant grants import -

Run it where the project runs, in its environment. Each argument names a provider of allauth's, or the client id of one
of its apps, and the Evergrant client that its tokens were issued to. It is SOCIALACCOUNT_STORE_TOKENS = True that makes
allauth keep tokens; those without a refresh token are left out and counted.
"""

from __future__ import annotations

import argparse
import json
import sys

import django


def main() -> int:
    """Write a line for each grant and say on standard error how many there were."""
    parser = argparse.ArgumentParser(description="Export django-allauth's tokens as JSON Lines.")
    parser.add_argument("clients", nargs="+", metavar="PROVIDER=CLIENT", help="such as google=google-main")
    parser.add_argument(
        "--subject",
        choices=["user", "account"],
        default="user",
        help="who a grant is for: the user's primary key, or the account at the provider where users have several",
    )
    arguments = parser.parse_args()
    clients = dict(pair.split("=", 1) for pair in arguments.clients if "=" in pair)
    if len(clients) < len(arguments.clients):
        parser.error("each argument must be PROVIDER=CLIENT, and name another provider")
    if sys.stdout.isatty():
        parser.error("the lines hold tokens: send them into a pipe or a file")

    django.setup()
    from allauth.socialaccount.models import SocialToken
    from django.db.models import Q

    of_these = Q(account__provider__in=clients) | Q(app__client_id__in=clients)
    tokens = SocialToken.objects.filter(of_these).select_related("app", "account__user").order_by("pk")
    without = tokens.filter(token_secret="").count()
    written = 0
    for token in tokens.exclude(token_secret="").iterator(chunk_size=1000):
        print(json.dumps(line(token, clients, arguments.subject)))
        written += 1
    print(f"{written} grants written, {without} tokens without a refresh token left out", file=sys.stderr)
    return 0


def line(token, clients, subject):
    """Return a token as a line; what is not known is left out."""
    from django.utils import timezone

    account, user = token.account, token.account.user
    app = token.app.client_id if token.app is not None else None
    expires_at = token.expires_at
    if expires_at is not None and timezone.is_naive(expires_at):  # USE_TZ = False
        expires_at = timezone.make_aware(expires_at)
    fields = {
        "client": clients.get(app) or clients[account.provider],
        "subject": str(user.pk) if subject == "user" else account.uid,
        "refresh_token": token.token_secret,
        "access_token": token.token,
        "access_expires_at": expires_at.isoformat() if expires_at is not None else None,
        "account": account.uid,
        "email": getattr(user, user.get_email_field_name(), None),
    }
    return {name: value for name, value in fields.items() if value}


if __name__ == "__main__":
    sys.exit(main())
