"""Authlib's tables for SQLAlchemy, and the owner that they belong to."""

from __future__ import annotations

from dataclasses import dataclass

from authlib.integrations.sqla_oauth2 import OAuth2AuthorizationCodeMixin, OAuth2ClientMixin, OAuth2TokenMixin
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """All tables."""


class Client(Base, OAuth2ClientMixin):
    """A registered client."""

    __tablename__ = "clients"
    id: Mapped[int] = mapped_column(primary_key=True)


class Code(Base, OAuth2AuthorizationCodeMixin):
    """An authorization code that was not exchanged yet."""

    __tablename__ = "codes"
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[str]


class Token(Base, OAuth2TokenMixin):
    """An access token, with the refresh token that was issued along with it, if one was."""

    __tablename__ = "tokens"
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[str]


@dataclass(frozen=True, slots=True)
class Owner:
    """A resource owner; any name is one."""

    name: str

    def get_user_id(self) -> str:
        """Give what the tables know the owner by."""
        return self.name
