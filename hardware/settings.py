"""What every section of an experiment file has in common."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator


class Settings(BaseModel):
    """Strict and frozen: an unknown key is an error, a value cannot change afterwards."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: Any, known: ValidationInfo) -> Any:
        """`yes` and `on` are true in YAML, which pydantic takes for 1."""
        field = cls.model_fields[str(known.field_name)]
        kinds = set(_kinds(field.annotation))
        if isinstance(value, bool) and kinds & {int, float} and bool not in kinds:
            raise ValueError("input should be a number, not true or false")
        return value


def _kinds(annotation: Any) -> Iterator[Any]:
    """A type, and the types that it is made of."""
    yield annotation
    for part in get_args(annotation):
        yield from _kinds(part)
