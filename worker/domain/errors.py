"""What is raised: mistakes in the set-up, and broken infrastructure. Expected outcomes are values, not exceptions.

EvergrantError
├── ConfigurationError   a setting, the configuration file or the key ring is wrong: exit code 2
├── MailTemplateError    an operator's template cannot be written with
├── SchemaMismatchError  the database is behind or ahead of this code
├── MigrationStoppedError  a migration could not be finished, and was undone
└── SealError            a sealed column does not open
├── UnknownKeyError  under a key the ring does not hold
└── BrokenSealError  with the key it names: a wrong key, or the bytes were moved or changed
"""

from __future__ import annotations


class EvergrantError(Exception):
    """Root of what Evergrant raises on purpose; its message is one line for the person who can mend it."""


class ConfigurationError(EvergrantError):
    """A setting is missing, unknown or contradictory."""


class MailTemplateError(EvergrantError):
    """A template of mails cannot be written with."""


class SchemaMismatchError(EvergrantError):
    """The database's schema is not the one this code was written for."""


class MigrationStoppedError(EvergrantError):
    """A migration waited too long for a lock, or took too long; it was undone."""


class SealError(EvergrantError):
    """A sealed column does not open."""


class UnknownKeyError(SealError):
    """The key ring lacks the key under which a column was sealed."""


class BrokenSealError(SealError):
    """A sealed column does not open with the key it names, or was moved to another column or row."""
