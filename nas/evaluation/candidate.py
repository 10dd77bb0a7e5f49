"""A candidate: one sub-network together with one precision policy."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

from hardware.formats.precision import Precision, QuantPolicy
from supernets.space.space import Choice, Genomes, SearchSpace

PRECISION_SUFFIX = ".precision"


@dataclass(frozen=True)
class Candidate:
    """Architecture genes (name -> size) and the precision of every layer that exists in it."""

    architecture: tuple[tuple[str, int], ...]
    policy: QuantPolicy

    @classmethod
    def from_values(cls, values: Mapping[str, Choice]) -> Self:
        """Split gene values, as `SearchSpace.decode` gives them."""
        sizes = {name: v for name, v in values.items() if not name.endswith(PRECISION_SUFFIX)}
        precisions = {
            name.removesuffix(PRECISION_SUFFIX): Precision(str(v))
            for name, v in values.items()
            if name.endswith(PRECISION_SUFFIX)
        }
        architecture = tuple(sorted((name, int(size)) for name, size in sizes.items()))
        return cls(architecture, QuantPolicy(precisions))

    @classmethod
    def from_genome(cls, space: SearchSpace, genome: Genomes) -> Self:
        """Decode one genome `(n_genes,)`."""
        return cls.from_values(space.decode(genome))

    @property
    def values(self) -> dict[str, Choice]:
        """Gene name -> value, the inverse of `from_values`."""
        precisions = {name + PRECISION_SUFFIX: p.value for name, p in self.policy.items()}
        return {**dict(self.architecture), **precisions}

    def genome(self, space: SearchSpace) -> Genomes:
        """Encode in `space`, `(n_genes,)`. Raises ValueError if the space does not hold it."""
        return space.encode(self.values)

    def with_precision(self, precision: Precision) -> Self:
        """The same architecture, every layer in one precision."""
        return replace(self, policy=QuantPolicy.uniform(self.policy, precision))

    def to_json(self) -> dict[str, dict[str, int] | dict[str, str]]:
        """Plain dicts, read back by `from_json`."""
        return {
            "architecture": dict(self.architecture),
            "policy": {name: precision.value for name, precision in self.policy.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Mapping[str, int] | Mapping[str, str]]) -> Self:
        """Inverse of `to_json`."""
        architecture = tuple(sorted((name, int(v)) for name, v in data["architecture"].items()))
        return cls(
            architecture, QuantPolicy({k: Precision(str(v)) for k, v in data["policy"].items()})
        )

    @cached_property
    def key(self) -> str:
        """First 12 hexadecimal digits of the SHA-256 of the canonical JSON."""
        canonical = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]
