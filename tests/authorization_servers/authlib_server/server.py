"""Starts a Flask application around Authlib's authorization server on a free loopback port.

Its configuration: `clients`, client metadata as RFC 7591 writes it, and `include_new_refresh_token`, which is what the
refresh token grant's INCLUDE_NEW_REFRESH_TOKEN becomes. The store is Authlib's own for SQLAlchemy.
"""

from __future__ import annotations

import os
from typing import Any, Final
from wsgiref.types import WSGIApplication

from authlib.integrations.flask_oauth2 import AuthorizationServer, ResourceProtector, current_token
from authlib.integrations.sqla_oauth2 import (
    create_bearer_token_validator,
    create_query_client_func,
    create_revocation_endpoint,
    create_save_token_func,
)
from authlib.oauth2.rfc7636 import CodeChallenge
from flask import Flask, request
from flask.typing import ResponseReturnValue
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from tests.authorization_servers.authlib_server.grants import AuthorizationCodeGrant, RefreshTokenGrant
from tests.authorization_servers.authlib_server.store import Base, Client, Owner, Token
from tests.authorization_servers.wsgi_child import serve

_LOGIN_AND_CONSENT: Final = """<!doctype html><title>Allow?</title><form method="post">
  <input name="login"><input name="password" type="password"><input type="submit" value="Sign in and allow"></form>"""


def _open_store(clients: list[dict[str, Any]]) -> Session:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    Base.metadata.create_all(engine)
    session = Session(engine)
    for metadata in clients:
        client = Client(client_id=metadata["client_id"], client_secret=metadata["client_secret"])
        client.set_client_metadata(metadata)
        session.add(client)
    session.commit()
    return session


def _build(wanted: dict[str, Any], issuer: str) -> WSGIApplication:
    del issuer
    os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"  # on loopback there is no one in between
    store = _open_store(wanted["clients"])
    application = Flask(__name__)
    application.config["OAUTH2_REFRESH_TOKEN_GENERATOR"] = True
    server = AuthorizationServer(
        application, create_query_client_func(store, Client), create_save_token_func(store, Token)
    )
    server.store = store
    refresh_token_grant = type(
        "ConfiguredRefreshTokenGrant",
        (RefreshTokenGrant,),
        {"INCLUDE_NEW_REFRESH_TOKEN": wanted["include_new_refresh_token"]},
    )
    server.register_grant(AuthorizationCodeGrant, [CodeChallenge(required=True)])
    server.register_grant(refresh_token_grant)
    server.register_endpoint(create_revocation_endpoint(store, Token))
    protector = ResourceProtector()
    protector.register_token_validator(create_bearer_token_validator(store, Token)())

    @application.get("/authorize")
    def ask() -> ResponseReturnValue:
        return _LOGIN_AND_CONSENT

    @application.post("/authorize")
    def authorize() -> ResponseReturnValue:
        owner = Owner(request.form["login"])
        answer: ResponseReturnValue = server.create_authorization_response(
            grant_user=owner, grant=server.get_consent_grant(end_user=owner)
        )
        return answer

    @application.post("/token")
    def issue() -> ResponseReturnValue:
        answer: ResponseReturnValue = server.create_token_response()
        return answer

    @application.post("/revoke")
    def revoke() -> ResponseReturnValue:
        answer: ResponseReturnValue = server.create_endpoint_response("revocation")
        return answer

    @application.get("/me")
    @protector()
    def me() -> ResponseReturnValue:
        return {"sub": current_token.user_id}

    return application


if __name__ == "__main__":
    serve(_build)
