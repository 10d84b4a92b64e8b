"""The Django project around django-oauth-toolkit: its addresses, who may sign in, and a resource to use a token at."""

from __future__ import annotations

from typing import Final

from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import User
from django.contrib.auth.views import LoginView
from django.http import HttpRequest, JsonResponse
from django.urls import include, path
from oauth2_provider.views.generic import ProtectedResourceView


class AnyOwner(ModelBackend):
    """Knows any name, with any password."""

    def authenticate(self, request: HttpRequest | None, username: str | None = None, **credentials: object) -> User:
        """Give the user of that name, who is made where there is none yet."""
        del request, credentials
        return User.objects.get_or_create(username=username)[0]


class Me(ProtectedResourceView):
    """Says whose access token it was asked with."""

    def get(self, request: HttpRequest) -> JsonResponse:
        """Name the owner."""
        return JsonResponse({"sub": request.resource_owner.get_username()})


urlpatterns: Final = [
    path("login/", LoginView.as_view()),
    path("o/", include("oauth2_provider.urls")),
    path("me", Me.as_view()),
]
