"""What every super-network can do, whatever its family."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor, nn

from hardware.precision import Precision, QuantPolicy
from supernets.cost import Cost, LayerSpec
from supernets.elastic import ElasticLinear
from supernets.importance import Units
from supernets.settings import Settings, SpaceSettings, Widths
from supernets.space import PRECISION_SUFFIX, Choice, Gene, Genomes, Requires, SearchSpace

Architecture = Mapping[str, int]

CONFIG_FILE = "config.json"
SPACE_FILE = "space.json"
WEIGHTS_FILE = "model.safetensors"


def split_values(values: Mapping[str, Choice]) -> tuple[dict[str, int], QuantPolicy]:
    """Part gene values into the architecture and the precision policy."""
    sizes = {name: int(v) for name, v in values.items() if not name.endswith(PRECISION_SUFFIX)}
    precisions = {
        name.removesuffix(PRECISION_SUFFIX): Precision(str(value))
        for name, value in values.items()
        if name.endswith(PRECISION_SUFFIX)
    }
    return sizes, QuantPolicy(precisions)


def resolve(widths: Widths, full: int, field: str, multiple: int = 1) -> tuple[int, ...]:
    """Turn widths, whole numbers or fractions of `full`, into ascending sizes.

    Fractions are rounded to the nearest multiple. Raises ValueError for a size above `full`.
    """
    sizes = set()
    for width in widths:
        exact = width if isinstance(width, int) else width * full
        size = width if isinstance(width, int) else max(1, round(exact / multiple)) * multiple
        if size > full:
            raise ValueError(
                f"space.{field}: {width} is larger than the network's {full}; "
                f"give values up to {full}, or fractions"
            )
        sizes.add(size)
    return tuple(sorted(sizes))


class SuperNetwork(nn.Module, ABC):
    """A network whose sub-networks share its weights.

    `block_order` maps each depth gene to its blocks, the most important first: depth d keeps the
    first d of them, run in their original order.
    """

    config: Settings
    num_labels: int
    block_order: dict[str, list[int]]

    @property
    @abstractmethod
    def dynamic_axes(self) -> dict[str, dict[int, str]]:
        """Input or output name -> axis -> symbol, for the ONNX graph."""

    @abstractmethod
    def example_inputs(self, batch_size: int = 2) -> dict[str, Tensor]:
        """Inputs of the right names, types and sizes for the active sub-network."""

    @abstractmethod
    def activate(self, architecture: Architecture) -> None:
        """Use the sub-network of these sizes; a gene left out is at full size."""

    @abstractmethod
    def extract(self) -> nn.Module:
        """Copy the active sub-network into a plain network, in evaluation mode."""

    @abstractmethod
    def architecture_genes(self, settings: SpaceSettings) -> list[Gene]:
        """Genes for sizes. Raises ValueError for sizes the network does not have."""

    @abstractmethod
    def block_path(self, depth_gene: str, index: int) -> str:
        """Module path of one droppable block."""

    @abstractmethod
    def units(self) -> list[Units]:
        """The groups of units that can be put in another order without changing the function."""

    @abstractmethod
    def branch_outputs(self, block: str) -> list[Tensor]:
        """Parameters that end a block's branches: all zero means that the block does nothing."""

    @abstractmethod
    def cost(self, space: SearchSpace, genomes: Genomes) -> Cost:
        """Sizes, MACs and parameters of the sub-networks of `genomes` `(n, n_genes)`."""

    @property
    def layers(self) -> tuple[LayerSpec, ...]:
        """Every layer that can be quantized, at full size."""
        return tuple(
            LayerSpec(
                name,
                "linear",
                module.in_features,
                module.out_features,
                bias=module.bias is not None,
            )
            for name, module in self.named_modules()
            if isinstance(module, ElasticLinear)
        )

    def kept_blocks(self, depth_gene: str, depth: int) -> list[int]:
        """Indices of the blocks that a depth keeps, in order of execution."""
        return sorted(self.block_order[depth_gene][:depth])

    def rank(self, depth_gene: str, index: int) -> int:
        """The smallest depth that keeps a block."""
        return self.block_order[depth_gene].index(index) + 1

    def requirement(self, layer: str, genes: Mapping[str, Gene]) -> Requires | None:
        """The depth that a layer or size gene needs; None if every choice keeps it."""
        for depth_gene, order in self.block_order.items():
            for rank, index in enumerate(order, start=1):
                if layer.startswith(self.block_path(depth_gene, index) + "."):
                    smallest = min(map(int, genes[depth_gene].choices))
                    return Requires(depth_gene, rank) if rank > smallest else None
        return None

    def space(self, settings: SpaceSettings) -> SearchSpace:
        """All genes: sizes first, then one precision per layer; one that no pattern fits stays FP32.

        Raises ValueError for sizes the network does not have and patterns that fit no layer.
        """
        sizes = {gene.name: gene for gene in self.architecture_genes(settings)}
        required = [
            Gene(gene.name, gene.choices, self.requirement(gene.name, sizes))
            for gene in sizes.values()
        ]
        return SearchSpace((*required, *self._precision_genes(settings, sizes)))

    def _precision_genes(
        self, settings: SpaceSettings, sizes: Mapping[str, Gene]
    ) -> Iterator[Gene]:
        names = [layer.name for layer in self.layers]
        for pattern in settings.precision:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise ValueError(
                    f"space.precision: pattern {pattern!r} fits no layer; "
                    f"layers are {', '.join(names)}"
                )
        for name in names:
            fitting = [c for pattern, c in settings.precision.items() if fnmatchcase(name, pattern)]
            allowed = fitting[-1] if fitting else (Precision.FP32,)
            choices = sorted(set(allowed), key=lambda precision: precision.bits)
            yield Gene(
                name + PRECISION_SUFFIX,
                tuple(precision.value for precision in choices),
                self.requirement(name, sizes),
            )

    def save(self, folder: Path, space: SearchSpace) -> None:
        """Write config.json, space.json and model.safetensors; each appears whole or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        description = {
            "config": self.config.model_dump(mode="json"),
            "num_labels": self.num_labels,
            "block_order": self.block_order,
        }
        _write_text(folder / CONFIG_FILE, json.dumps(description, indent=2))
        _write_text(folder / SPACE_FILE, json.dumps(space.to_json()))
        partial = folder / (WEIGHTS_FILE + ".part")
        save_file({name: t.contiguous() for name, t in self.state_dict().items()}, partial)
        partial.replace(folder / WEIGHTS_FILE)


def _write_text(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".part")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
