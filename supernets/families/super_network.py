"""What every super-network can do, whatever its family."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from hardware.files import replacing, write_atomically
from hardware.formats.format import Format
from hardware.formats.fp32 import FP32
from hardware.formats.registry import find_format, ordered
from hardware.formats.scheme import QuantScheme
from hardware.graph.layer import Layer
from supernets.data.data import Batch
from supernets.families.registry import family
from supernets.families.sizes import Sizes
from supernets.layers.coupled_units import Units
from supernets.layers.elastic import (
    Elastic,
    ElasticConv2d,
    ElasticEmbedding,
    ElasticLinear,
    ElasticScaledLinear,
    Quantizable,
)
from supernets.layers.side_by_side import SideBySide
from supernets.layers.twins.fixed_levels import FixedLevels
from supernets.settings import DEFAULT_PRECISION, SpaceSettings
from supernets.space.cost import Cost
from supernets.space.dimensions import DepthDimension, in_order, problems
from supernets.space.space import Architecture, Gene, Genomes, Requires, SearchSpace
from supernets.tasks.embedding import UnitLength
from supernets.tasks.scale import Scale
from supernets.tasks.task import Reading

CONFIG_FILE = "config.json"
SPACE_FILE = "space.json"
WEIGHTS_FILE = "model.safetensors"


Output = Tensor | tuple[Tensor, ...]
"""What a block puts out: tokens or maps, or those of several streams."""


def described(name: str, module: nn.Module) -> Layer | None:
    """The layer that a module is if it can be quantized; a norm gives each convolution a bias."""
    if isinstance(module, ElasticLinear):
        return Layer(name, "linear", tuple(module.weight.shape), module.bias is not None)
    if isinstance(module, ElasticConv2d):
        return Layer(name, "conv", tuple(module.weight.shape))
    if isinstance(module, ElasticEmbedding):
        return Layer(name, "embedding", tuple(module.weight.shape), bias=False)
    return None


class SuperNetwork(nn.Module, ABC):
    """A network whose sub-networks share its weights.

    `features` gives what `head` reads of each sample, `(B, width)`; that of a narrower sub-network
    is meant as a prefix. `levels` are those that few-bit weights keep, by layer, while one
    sub-network is trained. `block_order` maps each depth gene to its blocks, the most important
    first: depth d keeps the first d of them, `active`, run in their original order.
    """

    config: Sizes
    num_labels: int
    features: Callable[..., Tensor]
    head: ElasticLinear | UnitLength
    reads: Reading = "class"
    block_order: dict[str, list[int]]
    active: dict[str, list[int]]
    levels: Mapping[str, FixedLevels] = {}

    def start(self, config: Sizes, num_labels: int) -> None:
        """Remember the sizes and use all of the network, once its modules are there."""
        self.config, self.num_labels, self.active = config, num_labels, {}
        self.block_order = {
            gene: list(range(depth))
            for dimension in family(config.family).dimensions
            if isinstance(dimension, DepthDimension)
            for gene, depth in dimension.places(config).items()
        }
        self.activate({})

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights, of batch statistics too."""
        return sum(t.numel() * t.element_size() for t in self.state_dict().values())

    @property
    @abstractmethod
    def dynamic_axes(self) -> dict[str, dict[int, str]]:
        """Input or output name -> axis -> symbol, for the ONNX graph."""

    def read(self, what: Reading) -> None:
        """Give the head something else than the family's own classifier reads.

        Raises ValueError for a family that has nothing else.
        """
        if what != self.reads:
            raise ValueError(
                f"task: a {self.config.family} network has no outputs for {what!r}; it can classify"
            )

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of what the exported graph puts out; the first is what the network does here."""
        return ("logits",)

    def free_axes(self, space: SearchSpace) -> dict[str, dict[int, str]]:
        """Input axes in which the sub-networks of a space differ, named like `dynamic_axes`."""
        return {}

    @abstractmethod
    def example_inputs(
        self, batch_size: int = 2, sequence_length: int | None = None
    ) -> dict[str, Tensor]:
        """Inputs of the right names, types and sizes for the active sub-network."""

    @abstractmethod
    def extract(self) -> nn.Module:
        """Copy the active sub-network into a plain network, in evaluation mode."""

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
    def aligned(self, own: Any, full: Any, inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """What a block put out and what the full network has in its place: `(n, width)` each.

        own, full: an `Output` each. `inputs` are the active sub-network's. Rows stand for the same
        token or pixel.
        """

    @abstractmethod
    def cost(
        self, space: SearchSpace, genomes: Genomes, sequence_length: int | None = None
    ) -> Cost:
        """Sizes, MACs and parameters of the sub-networks of `genomes` `(n, n_genes)`.

        MACs are for one sample; of texts, one of `sequence_length` tokens.
        """

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    def activate(self, architecture: Architecture) -> None:
        """Use a sub-network; a gene left out is the full network's."""
        for dimension in family(self.config.family).dimensions:
            dimension.activate(self, architecture)

    def deploy(
        self, calibration: Iterable[Batch] = (), change: Callable[[nn.Module], None] | None = None
    ) -> nn.Module:
        """The active sub-network as it is exported.

        `calibration` are training batches from which a network with BatchNorm takes its statistics.
        `change` may first put other weights into its layers.
        """
        plain = self.extract()
        if change is not None:
            change(plain)
        return plain

    def deploy_all(self, space: SearchSpace) -> nn.Module:
        """The full network as it is exported, with all modules that a space lets choose from."""
        found = {path: SideBySide() for path in space.named_choices}
        for number in range(max(map(len, space.named_choices.values()), default=0)):
            taken = {p: names[number] for p, names in space.named_choices.items() if names[number:]}
            self.activate(taken)
            deployed = self.deploy()
            for path, name in taken.items():
                found[path][name] = deployed.get_submodule(path)
        self.activate({})
        network = self.deploy()
        for path, modules in found.items():
            network.set_submodule(path, modules)
        return network

    def adapt_inputs(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Inputs as the active sub-network takes them, from those of the full network."""
        return dict(inputs)

    def use_scale(self, scale: Scale, *, converted: bool) -> None:
        """Let the head count in a scale. converted: its weights gave the numbers themselves."""
        assert isinstance(self.head, ElasticLinear)
        self.head = head = ElasticScaledLinear.of(self.head, scale)
        vars(self).pop("_layers_of_units", None)  # which names the head of before
        if converted:
            head.convert()

    @property
    def scale(self) -> Scale | None:
        """In which the head counts, if it does."""
        return self.head.scale if isinstance(self.head, ElasticScaledLinear) else None

    @property
    def remembered(self) -> dict[str, Any]:
        """What a saved network needs to know besides its weights and the order of its blocks."""
        return {} if self.scale is None else {"scale": self.scale._asdict()}

    def remember(self, kept: Mapping[str, Any]) -> None:
        """Take back what `remembered` gave, which other entries may stand beside."""
        if "scale" in kept:
            self.use_scale(Scale(**kept["scale"]), converted=False)

    def indispensable(self, block: str) -> bool:
        """Whether every depth keeps this block."""
        return False

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Every layer that can be quantized, at full size."""
        found = (described(name, module) for name, module in self.named_modules())
        return tuple(layer for layer in found if layer is not None)

    def apply_policy(self, policy: Mapping[str, Format], scheme: QuantScheme) -> None:
        """Imitate low precision from now on; layers the policy does not name compute in FP32."""
        for layer in self.layers:
            module = self.quantizable(layer.name)
            module.precision = policy.get(layer.name, FP32)
            module.scheme = scheme
            module.levels = self.levels.get(layer.name)

    def quantizable(self, name: str) -> Quantizable:
        """One of `layers`."""
        module = self.get_submodule(name)
        assert isinstance(module, Quantizable)
        return module

    def use_blocks(self, depth_gene: str, depth: int) -> None:
        """Run the most important blocks alone."""
        self.active[depth_gene] = sorted(self.block_order[depth_gene][:depth])

    def use_units(self, gene: str, count: int) -> None:
        """Use the first units alone, in all layers that they lie in."""
        for layer, size, per_unit in self._layers_of_units[gene]:
            setattr(layer, size, count * per_unit)

    @cached_property
    def _layers_of_units(self) -> Mapping[str, list[tuple[Elastic, str, int]]]:
        """Gene -> layer, its size that the gene decides, and how much of it a unit takes."""
        owner = {
            id(tensor): module
            for module in self.modules()
            if isinstance(module, Elastic)
            for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False))
        }
        found = defaultdict[str, list[tuple[Elastic, str, int]]](list)
        for units in self.units():
            for part in units.parts:
                if id(part.tensor) in owner:
                    size = "active_in" if part.axis else "active_out"
                    per_unit = part.tensor.shape[part.axis] // units.count
                    gene = part.gene or units.gene
                    found[gene].append((owner[id(part.tensor)], size, per_unit))
        return dict(found)

    def path(self) -> list[nn.Module]:
        """The active blocks, in the order they run."""
        return [
            self.get_submodule(self.block_path(gene, index))
            for gene, kept in self.active.items()
            for index in kept
        ]

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
        """All genes: sizes first, then a precision per layer; one no pattern fits stays FP32.

        Raises ValueError with a line for each size the network does not have and each pattern that
        fits no layer.
        """
        settings = settings.resolved()
        names = [layer.name for layer in self.layers]
        dimensions = family(self.config.family).dimensions
        wrong = problems(settings, dimensions, self.config, names)
        if wrong:
            raise ValueError("\n".join(wrong))
        found = [d.genes(self.config, settings.dimensions.get(d.name)) for d in dimensions]
        sizes = {gene.name: gene for gene in in_order(chain.from_iterable(found))}
        required = [
            replace(gene, requires=self.requirement(gene.name, sizes)) for gene in sizes.values()
        ]
        return SearchSpace((*required, *self._precision_genes(settings, sizes)))

    def _precision_genes(
        self, settings: SpaceSettings, sizes: Mapping[str, Gene]
    ) -> Iterator[Gene]:
        patterns = settings.precision or DEFAULT_PRECISION
        for name in (layer.name for layer in self.layers):
            fitting = [c for pattern, c in patterns.items() if fnmatchcase(name, pattern)]
            allowed = {find_format(choice) for choice in fitting[-1]} if fitting else {FP32}
            choices = tuple(entry.name for entry in ordered(allowed))
            yield Gene.precision(name, choices, self.requirement(name, sizes))

    def save(self, folder: Path, space: SearchSpace) -> None:
        """Write config.json, space.json and model.safetensors; each appears whole or not at all."""
        description = {
            "config": self.config.model_dump(mode="json"),
            "num_labels": self.num_labels,
            "reads": self.reads,
            "block_order": self.block_order,
            **self.remembered,
        }
        write_atomically(folder / CONFIG_FILE, json.dumps(description, indent=2))
        write_atomically(folder / SPACE_FILE, json.dumps(space.to_json()))
        with replacing(folder / WEIGHTS_FILE) as part:
            save_file({name: t.contiguous() for name, t in self.state_dict().items()}, part)
