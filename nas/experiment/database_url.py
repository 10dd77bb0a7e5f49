"""Database URLs, whose passwords are never shown or written down."""

from __future__ import annotations

import re

STORAGE_VARIABLE = "SIMQNAS_STORAGE"
"""Environment variable with a database URL: out of sight of process lists and files."""

DRIVERS = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}
"""Database -> SQLAlchemy's name for it with the driver of our optional dependencies."""
PASSWORD = re.compile(r"(?<=://)([^/@\s:]*):.*@")
"""In a URL, up to its last @: a password may hold one, or a space."""
PASSWORD_IN_TEXT = re.compile(r"(?<=://)([^/@\s:]*):\S*@")
QUERY = re.compile(r"([?&])(\w*passw(?:or)?d)=[^&\s]*&?", re.IGNORECASE)
"""A password given as an option."""


def masked(url: str) -> str:
    """A database URL without its password, to be shown."""
    return masked_text(PASSWORD.sub(r"\1:***@", url))


def masked_text(text: str) -> str:
    """`text` with the password of every URL in it left out."""
    return QUERY.sub(r"\1\2=***", PASSWORD_IN_TEXT.sub(r"\1:***@", text))


def without_password(url: str) -> str:
    """A database URL that may be written down."""
    return QUERY.sub(r"\1", PASSWORD.sub(r"\1@", url)).rstrip("?&")


def with_driver(url: str) -> str:
    """A database URL as SQLAlchemy takes it."""
    name, _, rest = url.partition("://")
    return f"{DRIVERS.get(name, name)}://{rest}"
