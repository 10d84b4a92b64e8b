"""Makes the project's tables and stores what token endpoints have answered, each by the library's own code.

Reads JSON from standard input: a list of accounts, each with the `library`, `user`, `email`, `uid` and the `answer`.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import django
from django.core.management import call_command


def fill(accounts: list[dict[str, Any]]) -> None:
    """Store accounts, each as if its owner had just signed in."""
    django.setup()
    call_command("migrate", run_syncdb=True, verbosity=0, skip_checks=True)

    from allauth.socialaccount.models import SocialApp  # noqa: PLC0415 -- Django's parts are there after setup
    from django.contrib.auth.models import User  # noqa: PLC0415

    app = SocialApp.objects.create(provider="google", name="Google", client_id="google-client-id")
    for account in accounts:
        user, _ = User.objects.get_or_create(username=account["user"], email=account["email"])
        if account["library"] == "allauth":
            _sign_in_with_allauth(app, user, account)
        else:
            _sign_in_with_social_auth(user, account)


def _sign_in_with_allauth(app: Any, user: Any, account: dict[str, Any]) -> None:
    from allauth.socialaccount.models import SocialAccount  # noqa: PLC0415 -- as above
    from allauth.socialaccount.providers.google.views import GoogleOAuth2Adapter  # noqa: PLC0415
    from django.test import RequestFactory  # noqa: PLC0415

    token = GoogleOAuth2Adapter(RequestFactory().get("/")).parse_token(account["answer"])
    token.app = app if account["by_app"] else None
    token.account = SocialAccount.objects.create(user=user, provider="google", uid=account["uid"])
    token.save()


def _sign_in_with_social_auth(user: Any, account: dict[str, Any]) -> None:
    from social_django.models import UserSocialAuth  # noqa: PLC0415 -- as above
    from social_django.utils import load_backend, load_strategy  # noqa: PLC0415

    backend = load_backend(load_strategy(), "google-oauth2", redirect_uri=None)
    association = UserSocialAuth.create_social_auth(user, account["uid"], "google-oauth2")
    association.set_extra_data(backend.extra_data(user, account["uid"], account["answer"], {}, {}))
    association.save()


if __name__ == "__main__":
    fill(json.load(sys.stdin))
