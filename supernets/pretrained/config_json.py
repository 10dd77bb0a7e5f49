"""config.json: read from a checkpoint, and written beside an exported model."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pkgutil import resolve_name
from typing import Any

from pydantic import ValidationError
from transformers import AutoConfig, PreTrainedConfig

from supernets.families.hugging_face import CheckpointError, Field, HuggingFace
from supernets.families.registry import family, model_types
from supernets.families.sizes import Sizes
from supernets.space.space import Architecture
from supernets.tasks.task import Task

OF_ALL: dict[str, tuple[Any, ...]] = {
    "pruned_heads": ({}, None),
    "quantization_config": (None,),
}
"""Fields of every model_type, with the values that we compute."""


def hugging_face(name: str) -> HuggingFace:
    """How checkpoints of a family are written."""
    found = resolve_name(family(name).hugging_face)
    assert isinstance(found, HuggingFace)
    return found


def complete(config: Mapping[str, Any]) -> dict[str, Any]:
    """config.json as transformers reads it: other spellings of fields, defaults for missing ones.

    Raises CheckpointError for a model_type that we do not have, and values it cannot read.
    """
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in model_types():
        close = difflib.get_close_matches(str(kind), model_types(), n=3, cutoff=0)
        raise CheckpointError(
            f"model.checkpoint: model_type {kind!r} is not supported; supported are "
            f"{', '.join(dict.fromkeys([*close, *model_types()]))}"
        )
    if not isinstance(config.get("architectures"), list | None):
        raise CheckpointError(
            f"model.checkpoint: config.json has architectures {config['architectures']!r}; it must "
            "be a list of class names"
        )
    defaults = hugging_face(model_types()[kind]).defaults
    given = {name: value for name, value in config.items() if name != "model_type"}
    try:
        if defaults is None:
            read = AutoConfig.for_model(kind, **given).to_dict()
        else:  # a family that it does not have; fields of all are read alike
            given = {**defaults, **given}
            read = PreTrainedConfig(**given).to_dict()
    except Exception as error:  # its checks raise errors of many kinds
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"model.checkpoint: transformers cannot read config.json ({reason[:200]})"
        ) from error
    return {**given, **read, "model_type": kind}


def network_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of config.json, those of the part with the network's sizes before the others."""
    section = hugging_face(model_types()[config["model_type"]]).variant(config).section
    return {**config, **(config[section] if section else {})}


def size_of(config: Mapping[str, Any], ours: str) -> Any:
    """One of our sizes, as a config.json says it."""
    return (
        hugging_face(model_types()[config["model_type"]]).fields[ours].value(network_fields(config))
    )


def read_config(config: Mapping[str, Any]) -> Sizes:
    """Sizes of a checkpoint. Raises CheckpointError for a family or variant we do not have."""
    whole = complete(config)
    name = model_types()[whole["model_type"]]
    known = hugging_face(name)
    part = network_fields(whole)
    for key, allowed in {**OF_ALL, **known.fixed}.items():
        if part.get(key, allowed[0]) not in allowed:
            raise CheckpointError(
                f"model.checkpoint: config.json has {key} {part[key]!r}; only "
                f"{' or '.join(map(repr, allowed))} is supported; give the checkpoint that this "
                "one was made of, or another one"
            )
    sizes = {ours: _value(field, part) for ours, field in known.fields.items()}
    try:
        return family(name).sizes.model_validate({**sizes, **known.variant(whole).sizes})
    except ValidationError as error:
        raise CheckpointError(
            f"model.checkpoint: config.json is not usable: {reasons(error, known)}"
        ) from error


def _value(field: Field, config: Mapping[str, Any]) -> Any:
    """One of our sizes. Raises CheckpointError for a value of a type that no such field has."""
    try:
        return field.value(config)
    except CheckpointError:
        raise
    except (TypeError, AttributeError, ArithmeticError, LookupError, ValueError):
        given = config.get(field.theirs)
        raise CheckpointError(
            f"model.checkpoint: config.json has {field.theirs} {given!r}, which is no value that "
            "it can have; repair it, or give a checkpoint as transformers saves it"
        ) from None


def reasons(error: ValidationError, known: HuggingFace) -> str:
    """What is wrong with sizes, in the names of config.json where it has them."""
    names = "|".join(map(re.escape, known.fields))

    def theirs(text: str) -> str:
        return re.sub(rf"\b({names})\b", lambda found: known.fields[found[0]].theirs, text)

    told = []
    for entry in error.errors():
        if entry["type"] == "default_factory_not_called":  # it follows from one that is wrong
            continue
        where = ".".join(theirs(str(part)) for part in entry["loc"])
        rule = theirs(entry["msg"].removeprefix("Value error, "))
        told.append(f"{where}: {rule} (given: {entry['input']!r})" if where else rule)
    return "; ".join(told)


def export_config(config: Sizes, architecture: Architecture, task: Task) -> dict[str, Any]:
    """The transformers configuration nearest to a sub-network, with its task's labels.

    What differs between blocks has no field there: the largest size is given, of choices without
    order the full network's, and `simqnas_architecture` holds every one.
    """
    known, sizes = hugging_face(config.family), config.shrunk(architecture)
    variant = known.variant_of(config)
    described: dict[str, Any] = {key: allowed[0] for key, allowed in known.fixed.items()}
    for ours, field in known.fields.items():
        described |= field.entry(sizes, ours)
    for dimension in family(config.family).dimensions:
        described |= dimension.config_json(config, architecture)
    return {
        "architectures": [
            variant.architecture.replace("ForSequenceClassification", task.architecture)
        ],
        "model_type": variant.model_type,
        **({variant.section: described} if variant.section else described),
        **task.config_json(),
        "simqnas_architecture": dict(architecture),
    }
