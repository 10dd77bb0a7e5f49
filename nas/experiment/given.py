"""What an experiment states itself, and what it leaves open, by dotted keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel

Model = TypeVar("Model", bound=BaseModel)


def is_given(model: BaseModel, where: str) -> bool:
    """Whether `tune.epochs` was stated, or a section around it as null."""
    key, _, rest = where.partition(".")
    if key not in model.model_fields_set:
        return False
    inner = getattr(model, key)
    return is_given(inner, rest) if rest and isinstance(inner, BaseModel) else True


def with_values(model: Model, values: Mapping[str, Any]) -> Model:
    """The model with values at dotted keys; they count as given."""
    for where, value in values.items():
        key, _, rest = where.partition(".")
        inner = with_values(getattr(model, key), {rest: value}) if rest else value
        model = model.model_copy(update={key: inner})
    return model


def filled(model: Model, kept: Model) -> Model:
    """What the model leaves open, as `kept` has it."""
    update = {}
    for key in type(model).model_fields:
        own, other = getattr(model, key), getattr(kept, key)
        if key not in model.model_fields_set:
            update[key] = other
        elif isinstance(own, BaseModel) and type(own) is type(other):
            update[key] = filled(own, other)
    return model.model_copy(update=update)
