"""What every section of an experiment file has in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Strict and frozen: an unknown key is an error, a value cannot change afterwards."""

    model_config = ConfigDict(frozen=True, extra="forbid")
