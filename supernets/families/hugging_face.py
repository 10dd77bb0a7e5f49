"""How a family's checkpoints are written: names of tensors and fields of config.json, both ways."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from supernets.families.sizes import Sizes

Tensors = dict[str, Tensor]
Prepare = Callable[[Mapping[str, Tensor], Any, Any], Mapping[str, Tensor]]
NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")


class CheckpointError(ValueError):
    """A checkpoint that cannot be used, with the reason and what to do."""


def _same(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class Field:
    """Where config.json has one of our sizes, and the value there from ours and back."""

    theirs: str
    read: Callable[[Any], Any] = _same
    write: Callable[[Any], Any] = _same

    def value(self, config: Mapping[str, Any]) -> Any:
        """Our size, from a config.json."""
        return self.read(config.get(self.theirs))

    def entry(self, sizes: Sizes, ours: str) -> dict[str, Any]:
        """What config.json says of our size."""
        return {self.theirs: self.write(getattr(sizes, ours))}


def square(theirs: str, default: int | None = None) -> Field:
    """A height and width in one number, or in two that are the same."""

    def read(value: Any) -> Any:
        sides = list(value) if isinstance(value, list | tuple) else [value]
        if len(set(sides)) != 1:
            raise CheckpointError(
                f"model.checkpoint: config.json has {theirs} {value!r}; only squares are supported"
            )
        return default if sides[0] is None else sides[0]

    return Field(theirs, read)


@dataclass(frozen=True)
class Variant:
    """One of transformers' classes, what it says about our sizes, and its classifiers.

    The outputs of several classifiers are averaged. base: what its tensors' names begin with, the
    model_type if it is not given. section: the part of config.json that has the sizes.
    """

    model_type: str
    architecture: str
    heads: tuple[str, ...]
    sizes: Mapping[str, Any] = field(default_factory=dict)
    base: str | None = None
    section: str | None = None

    @property
    def prefix(self) -> str:
        """What the names of all tensors but the classifiers' begin with."""
        return f"{self.base or self.model_type}."


def _unprepared(theirs: Mapping[str, Tensor], own: Sizes, wanted: Sizes) -> Mapping[str, Tensor]:
    return theirs


@dataclass(frozen=True)
class Bare:
    """Weights in another library's names, often without a config.json.

    known: whether names are that library's. sizes: read off the weights and what config.json says
    nevertheless. renamed: a name in transformers' terms.
    """

    known: Callable[[Iterable[str]], bool]
    sizes: Callable[[Mapping[str, Tensor], Mapping[str, Any]], Sizes]
    renamed: Callable[[str], str]


@dataclass(frozen=True)
class HuggingFace:
    """Names and sizes of transformers in terms of ours.

    names: our module or tensor -> theirs, without prefix; each `{}` is a number, the same in both.
    fields: our size -> field of config.json. variants: the first of a model_type is the one that is
    meant if config.json names no class. fixed: fields with the values that we compute, the first of
    which is written. older: patterns of other spellings, and the one in `names`, in the order in
    which they are applied. optional: our modules that a checkpoint without a classifier lacks.
    ignored: patterns of their tensors that no classifier computes with. left_out: parts of theirs,
    in words, that ours are without -> patterns of their tensors. defaults: fields of config.json,
    for a model_type that transformers does not have. prepare: changes their
    tensors, given the checkpoint's sizes and the wanted ones, so that `names` hold.
    """

    names: Mapping[str, str]
    fields: Mapping[str, Field]
    variants: tuple[Variant, ...]
    fixed: Mapping[str, tuple[Any, ...]]
    older: tuple[tuple[str, str], ...] = ()
    optional: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    left_out: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    defaults: Mapping[str, Any] | None = None
    prepare: Prepare = _unprepared
    bare: Bare | None = None

    def theirs(self, ours: str) -> str | None:
        """Their name of one of our tensors, None for one of ours alone."""
        template, numbers = NUMBER.sub("{}", ours), NUMBER.findall(ours)
        module, _, kind = template.rpartition(".")
        if template in self.names:
            return self.names[template].format(*numbers)
        if module in self.names:
            return f"{self.names[module]}.{kind}".format(*numbers)
        return None

    def renaming(self, ours: Iterable[str]) -> dict[str, str]:
        """Our tensors -> theirs, for those that both have."""
        both = ((name, self.theirs(name)) for name in ours)
        return {name: theirs for name, theirs in both if theirs is not None}

    def spelled_anew(self, theirs: str) -> str:
        """A tensor's name as `names` spells it."""
        for pattern, replacement in self.older:
            theirs = re.sub(pattern, replacement, theirs)
        return theirs

    def variant(self, config: Mapping[str, Any]) -> Variant:
        """The class that a config.json names, else the model_type's first."""
        alike = [v for v in self.variants if v.model_type == config["model_type"]]
        named = config.get("architectures") or ()
        return next((v for v in alike if v.architecture in named), alike[0])

    def variant_of(self, sizes: Sizes) -> Variant:
        """The class that computes what our network of these sizes does, or the nearest."""

        def fits(variant: Variant) -> bool:
            return all(getattr(sizes, name) == value for name, value in variant.sizes.items())

        return next(filter(fits, self.variants), self.variants[0])
