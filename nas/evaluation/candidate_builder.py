"""Candidate -> network -> ONNX model, for one super-network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np
import onnx
from numpy.typing import NDArray
from torch import Tensor, nn

from hardware.formats.error_feedback import FeedbackQuantizer
from hardware.formats.format import Format
from hardware.formats.int4 import INT4
from hardware.formats.scheme import Int4Kernel, QuantScheme
from hardware.formats.weight_memo import WeightMemo
from hardware.graph.export import Template, export_template
from hardware.graph.static_activations import Ranges
from hardware.kernel_choice import choose_int4_kernel
from hardware.portability.runtimes import Runtime
from hardware.target import Target
from hardware.writing.activation_ranges import rounding_of
from hardware.writing.calibrate import calibrate
from hardware.writing.materialize import Weights, arrays, materialize
from hardware.writing.verify import verify
from nas.evaluation.built_candidate import BuiltCandidate, graph_digest
from nas.evaluation.candidate import Candidate
from nas.evaluation.error_feedback import ErrorFeedback, round_active
from supernets.data.data import Batch, Split
from supernets.families.super_network import SuperNetwork
from supernets.layers.fake_quantize import fake_quantize
from supernets.layers.twins.fixed_levels import FixedLevels
from supernets.space.cost import Cost
from supernets.space.space import Choice, Genomes, SearchSpace

Inputs = dict[str, NDArray[np.generic]]


_EXPORTED: dict[str, Template] = {}


def template_of(supernet: SuperNetwork, space: SearchSpace) -> Template:
    """The exported graph from which every candidate of the space is cut.

    It holds no weights: what the graph follows from is exported once in a process.
    """
    described = supernet.config, supernet.num_labels, supernet.reads, supernet.scale
    free, choices = supernet.free_axes(space), space.named_choices
    key = repr((described, free, choices))
    if key not in _EXPORTED:
        _EXPORTED[key] = export_template(
            supernet.deploy_all(space),
            supernet.example_inputs(),
            dynamic_axes=supernet.dynamic_axes,
            free_axes=free,
            choices=choices,
            outputs=supernet.output_names,
        )
    return _EXPORTED[key]


@dataclass(frozen=True)
class CandidateBuilder:
    """Builds candidates from one tuned super-network and its exported template.

    calibration: training batches, for BatchNorm statistics and static activation ranges; those of
    `train`, if it is given, are put as each candidate takes them.
    target: where the models will run, at whose sequence length MACs are counted.
    feedback: rounds weights of few bits; without it each goes to its nearest level.

    The super-network is activated anew in every method, so that their order does not matter.
    """

    supernet: SuperNetwork
    space: SearchSpace
    template: Template
    scheme: QuantScheme
    calibration: Sequence[Batch]
    target: Target = field(default_factory=Target)
    memo: WeightMemo = field(default_factory=WeightMemo)
    train: Split | None = None
    feedback: ErrorFeedback | None = None
    _ranges: dict[tuple[tuple[str, Choice], ...], Ranges] = field(default_factory=dict)

    def with_fastest_int4(self, cache: Path, runtimes: Sequence[Runtime] = ()) -> Self:
        """The same with the INT4 kernel that the target runs faster, of those that `runtimes` have.

        Both are measured on the largest network; the answer is kept in `cache` / int4_kernel.json.
        Where the group size rules one out, or no layer may be INT4, nothing is measured.
        """
        int4 = any(INT4.name in gene.choices for gene in self.space.genes)
        if not int4 or self.scheme.group_size is None:
            return self.with_int4_kernel("w4a8")
        largest = self.uniform(self.space.largest(), INT4)
        weights = arrays(self.network(largest).state_dict())
        choice = choose_int4_kernel(
            self._template(largest),
            weights,
            self.scheme,
            self.target,
            self.example(largest),
            ranges=self._calibrated(largest, weights) if self._is_static(largest) else None,
            runtimes=runtimes,
            cache=cache / "int4_kernel.json",
        )
        return self.with_int4_kernel(choice.kernel)

    def with_int4_kernel(self, kernel: Int4Kernel) -> Self:
        """The same with this kernel for every INT4 linear layer."""
        return replace(self, scheme=self.scheme.with_int4_kernel(kernel))

    def network(self, candidate: Candidate) -> nn.Module:
        """The plain FP32 torch network of the candidate's architecture, as it is exported."""
        self.supernet.activate(dict(candidate.architecture))
        return self.supernet.deploy(self._calibration(candidate))

    def stored(self, candidate: Candidate) -> nn.Module:
        """The same with weights of few bits as they are rounded, which formats then leave as they
        are; BatchNorm statistics are taken with them."""
        quantizers = self._rounding(candidate)
        if self.feedback is None or not quantizers:
            return self.network(candidate)
        self.supernet.activate(dict(candidate.architecture))
        change = partial(self.feedback.round, quantizers=quantizers)
        return self.supernet.deploy(self._calibration(candidate), change)

    def round_copy(self, network: SuperNetwork, candidate: Candidate) -> dict[str, FixedLevels]:
        """Round the weights that a candidate has in a copy of the super-network, as in `stored`.

        Returns by layer the levels that weights of few bits keep while they are trained.
        """
        network.activate(dict(candidate.architecture))
        levels = round_active(network, candidate.policy, self.scheme, self.feedback)
        network.activate({})
        return levels

    def adapted(self, candidate: Candidate, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Inputs of the full network as the candidate takes them."""
        self.supernet.activate(dict(candidate.architecture))
        return self.supernet.adapt_inputs(inputs)

    def inputs(self, candidate: Candidate, inputs: Mapping[str, Tensor]) -> Inputs:
        """The same for ONNX Runtime."""
        adapted = self.adapted(candidate, inputs)
        return {name: tensor.numpy() for name, tensor in adapted.items()}

    def example(self, candidate: Candidate) -> Inputs:
        """Inputs at the target's batch size and sequence length, to measure latency with."""
        self.supernet.activate(dict(candidate.architecture))
        target = self.target
        tensors = self.supernet.example_inputs(target.batch_size, target.sequence_length)
        return {name: tensor.numpy() for name, tensor in tensors.items()}

    def uniform(self, genome: Genomes, precision: Format) -> Candidate:
        """The architecture of a genome `(n_genes,)`, one precision for every quantizable layer."""
        candidate = Candidate.from_genome(self.space, genome)
        return candidate.with_precision(precision)

    def cost(self, genomes: Genomes) -> Cost:
        """Sizes, MACs and parameters of genomes `(n_samples, n_genes)`."""
        return self.supernet.cost(self.space, genomes, self.target.sequence_length)

    def costs(self, candidate: Candidate, size_bytes: float) -> dict[str, float]:
        """What is known of a candidate and its file: its size, bits of it per parameter,
        parameters, and multiply-accumulates of one sample."""
        cost = self._cost_of(candidate)
        parameters = float(cost.parameters[0])
        return {
            "size_bytes": size_bytes,
            "bits_per_weight": 8 * size_bytes / parameters,
            "parameters": parameters,
            "macs": float(cost.macs[0]),
        }

    def macs(self, candidate: Candidate) -> dict[str, float]:
        """Multiply-accumulates of one sample by layer; those of no layer under the empty name."""
        cost = self._cost_of(candidate)
        names = [layer.name for layer in cost.layers]
        return dict(zip(names, cost.macs_per_layer[0].astype(float).tolist(), strict=True)) | {
            "": float(cost.other_macs[0])
        }

    def _cost_of(self, candidate: Candidate) -> Cost:
        genome = self.space.smallest()
        for name, size in candidate.architecture:
            column = self.space.column[name]
            genome[column] = self.space.genes[column].index(size)
        return self.cost(genome[None])

    def build(self, candidate: Candidate) -> BuiltCandidate:
        """Everything that is needed to measure or ship a candidate.

        Raises PolicyError when the written graph is not what the policy asks.
        """
        model = self.model(candidate)
        return BuiltCandidate(
            candidate=candidate,
            model=model,
            content=model.SerializeToString(),
            coverage=str(verify(model, candidate.policy)),
            graph_digest=graph_digest(model),
            example=self.example(candidate),
            target=self.target,
        )

    def model(self, candidate: Candidate) -> onnx.ModelProto:
        """The candidate's ONNX model, byte for byte what is measured and exported."""
        weights, policy = arrays(self.stored(candidate).state_dict()), candidate.policy
        ranges = self._calibrated(candidate, weights) if self._is_static(candidate) else None
        template = self._template(candidate)
        return materialize(template, weights, policy, self.scheme, ranges, self.memo)

    def imitation(self, candidate: Candidate, served: int | None) -> nn.Module:
        """A torch network that computes what the candidate's ONNX model computes.

        served: batch entries that share a dynamic range; None for the whole batch.
        """
        network, policy = self.stored(candidate), candidate.policy
        if not self._is_static(candidate):
            return fake_quantize(network, policy, self.scheme, served=served)
        weights = arrays(network.state_dict())
        ranges = self._calibrated(candidate, weights)
        where = rounding_of(self._template(candidate), weights, policy, self.scheme, ranges)
        return fake_quantize(network, policy, self.scheme, where.inputs, where.outputs, served)

    def _template(self, candidate: Candidate) -> Template:
        """The template with the alternatives that the candidate has."""
        return self.template.chosen(dict(candidate.architecture))

    def _is_static(self, candidate: Candidate) -> bool:
        """Whether a layer of the candidate takes its activation range from calibration."""
        kinds = {layer.name: layer.kind for layer in self.template.layers}
        policy = candidate.policy.items()
        return any(entry.is_static(kinds[name], self.scheme) for name, entry in policy)

    def _rounding(self, candidate: Candidate) -> dict[str, FeedbackQuantizer]:
        """The layers of the candidate that are rounded with feedback."""
        if self.feedback is None:
            return {}
        return self.feedback.quantizers(candidate.policy, self.scheme)

    def _calibrated(self, candidate: Candidate, stored: Weights) -> Ranges:
        """Ranges of the candidate's architecture; they do not depend on the policy, nor on how it
        has weights stored."""
        key = candidate.architecture
        if key not in self._ranges:
            rounded = bool(self._rounding(candidate))
            weights = arrays(self.network(candidate).state_dict()) if rounded else stored
            batches = (
                {name: tensor.numpy() for name, tensor in batch.inputs.items()}
                for batch in self._calibration(candidate)
            )
            template = self._template(candidate)
            self._ranges[key] = calibrate(template, weights, self.scheme, batches)
        return self._ranges[key]

    def _calibration(self, candidate: Candidate) -> list[Batch]:
        """The batches as the candidate, which is active, takes them."""
        batches, architecture = self.calibration, dict(candidate.architecture)
        if self.train is not None:
            batches = [self.train.rewritten(batch, architecture) for batch in batches]
        return [replace(b, inputs=self.supernet.adapt_inputs(b.inputs)) for b in batches]
