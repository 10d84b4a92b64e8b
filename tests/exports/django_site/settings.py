"""The project's settings: what both libraries need to keep tokens, and no page of theirs."""

from __future__ import annotations

import os
from typing import Final
from urllib.parse import urlsplit

_database: Final = urlsplit(os.environ["SITE_DATABASE_URL"])
_apps: Final = ["auth", "contenttypes", "sessions", "account", "socialaccount", "social_django"]

AUTHENTICATION_BACKENDS = ["social_core.backends.google.GoogleOAuth2", "django.contrib.auth.backends.ModelBackend"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": _database.hostname,
        "PORT": _database.port,
        "USER": _database.username,
        "PASSWORD": _database.password,
        "NAME": _database.path.lstrip("/"),
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "allauth",
    "allauth.account",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.google",
    "social_django",
]
MIDDLEWARE = ["allauth.account.middleware.AccountMiddleware"]
# The tables are made as the models are now: going through their history takes longer than all else.
MIGRATION_MODULES = dict.fromkeys(_apps)
SECRET_KEY = "of a project that nobody signs in to"
SOCIALACCOUNT_STORE_TOKENS = True
SOCIAL_AUTH_GOOGLE_OAUTH2_EXTRA_DATA = ["scope"]
USE_TZ = True
