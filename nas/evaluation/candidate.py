"""A candidate: one sub-network together with one precision policy."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

from hardware.formats.format import Format
from hardware.formats.policy import QuantPolicy
from hardware.formats.registry import find_format
from supernets.space.space import PRECISION_SUFFIX, Choice, Genomes, SearchSpace


@dataclass(frozen=True)
class Candidate:
    """Architecture (gene name -> value) and the precision of every layer that exists in it."""

    architecture: tuple[tuple[str, Choice], ...]
    policy: QuantPolicy

    @classmethod
    def from_genome(cls, space: SearchSpace, genome: Genomes) -> Self:
        """Decode one genome `(n_genes,)`."""
        architecture, policy = space.split(genome)
        return cls(tuple(sorted(architecture.items())), policy)

    @property
    def values(self) -> dict[str, Choice]:
        """Gene name -> value, as `SearchSpace.decode` gives them."""
        precisions = {name + PRECISION_SUFFIX: p.name for name, p in self.policy.items()}
        return {**dict(self.architecture), **precisions}

    def genome(self, space: SearchSpace) -> Genomes:
        """Encode in `space`, `(n_genes,)`. Raises ValueError if the space does not hold it."""
        return space.encode(self.values)

    def with_precision(self, precision: Format) -> Self:
        """The same architecture, every layer in one precision."""
        return replace(self, policy=QuantPolicy.uniform(self.policy, precision))

    def to_json(self) -> dict[str, dict[str, Choice] | dict[str, str]]:
        """Plain dicts, read back by `from_json`."""
        return {
            "architecture": dict(self.architecture),
            "policy": {name: precision.name for name, precision in self.policy.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Mapping[str, Choice]]) -> Self:
        """Inverse of `to_json`."""
        policy = {layer: find_format(name) for layer, name in data["policy"].items()}
        return cls(tuple(sorted(data["architecture"].items())), QuantPolicy(policy))

    @cached_property
    def key(self) -> str:
        """First 12 hexadecimal digits of the SHA-256 of the canonical JSON."""
        canonical = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]
