"""Starts a Django project with django-oauth-toolkit on a free loopback port.

Its configuration: `clients`, client metadata as RFC 7591 writes it, and `settings`, what goes into OAUTH2_PROVIDER. The
toolkit answers below /o/, and shows its own consent page; the login is Django's.
"""

from __future__ import annotations

import secrets
from typing import Any, Final
from wsgiref.types import WSGIApplication

import django
from django.conf import settings

from tests.authorization_servers.wsgi_child import serve

_APPS: Final = ["django.contrib.auth", "django.contrib.contenttypes", "oauth2_provider"]
_LOGIN_PAGE: Final = """<!doctype html><title>Sign in</title>
<form method="post">{% csrf_token %}{{ form }}<input type="hidden" name="next" value="{{ next }}"></form>"""


def _build(wanted: dict[str, Any], issuer: str) -> WSGIApplication:
    del issuer
    scopes = {scope for client in wanted["clients"] for scope in client["scope"].split()}
    settings.configure(
        ALLOWED_HOSTS=["127.0.0.1"],
        AUTHENTICATION_BACKENDS=["tests.authorization_servers.django_oauth_toolkit.project.AnyOwner"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        INSTALLED_APPS=_APPS,
        LOGIN_URL="/login/",
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
        ],
        # The tables are made as the models are now: going through their history takes longer than all else.
        MIGRATION_MODULES={app.rpartition(".")[2]: None for app in _APPS},
        OAUTH2_PROVIDER={"SCOPES": {scope: scope for scope in scopes}, **wanted["settings"]},
        ROOT_URLCONF="tests.authorization_servers.django_oauth_toolkit.project",
        SECRET_KEY=secrets.token_urlsafe(),
        SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
        STATIC_URL="static/",
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "OPTIONS": {
                    "loaders": [
                        ("django.template.loaders.locmem.Loader", {"registration/login.html": _LOGIN_PAGE}),
                        "django.template.loaders.app_directories.Loader",
                    ]
                },
            }
        ],
        USE_TZ=True,
    )
    django.setup()

    from django.core.management import call_command  # noqa: PLC0415 -- Django's parts are there after setup
    from django.core.wsgi import get_wsgi_application  # noqa: PLC0415
    from oauth2_provider.models import Application  # noqa: PLC0415

    call_command("migrate", run_syncdb=True, verbosity=0)
    for client in wanted["clients"]:
        Application.objects.create(
            client_id=client["client_id"],
            client_secret=client["client_secret"],
            # A hash meant for passwords takes a tenth of a second of each request.
            hash_client_secret=False,
            client_type=Application.CLIENT_CONFIDENTIAL,
            authorization_grant_type=Application.GRANT_AUTHORIZATION_CODE,
            redirect_uris=" ".join(client["redirect_uris"]),
        )
    application: WSGIApplication = get_wsgi_application()
    return application


if __name__ == "__main__":
    serve(_build)
