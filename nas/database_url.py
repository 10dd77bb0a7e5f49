"""Database URLs, whose passwords are never shown or written down."""

from __future__ import annotations

import re

STORAGE_VARIABLE = "SIMQNAS_STORAGE"
"""Environment variable with a database URL: out of sight of process lists and files."""

DRIVERS = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}
"""Database -> SQLAlchemy's name for it with the driver of our optional dependencies."""
PASSWORD = re.compile(r"(?<=://)([^/@\s:]*):[^\s]*@")


def masked(text: str) -> str:
    """`text` with the password of every URL in it left out."""
    return PASSWORD.sub(r"\1:***@", text)


def without_password(url: str) -> str:
    """A database URL that may be written down."""
    return PASSWORD.sub(r"\1@", url)


def with_driver(url: str) -> str:
    """A database URL as SQLAlchemy takes it."""
    name, _, rest = url.partition("://")
    return f"{DRIVERS.get(name, name)}://{rest}"
