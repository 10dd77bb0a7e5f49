"""Weights of candidates rounded so that errors of some make up for those of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Self

import torch
from torch import nn

from hardware.formats.error_feedback import FeedbackQuantizer, GroupQuantizer
from hardware.formats.format import Format
from hardware.formats.fp32 import FP32
from hardware.formats.scheme import QuantScheme
from hardware.formats.weight_memo import Floats, WeightMemo
from supernets.data.data import Batch
from supernets.families.super_network import SuperNetwork
from supernets.layers.elastic import ElasticConv2d, ElasticLinear
from supernets.layers.input_moments import input_moments
from supernets.layers.twins.fixed_levels import FixedLevels
from supernets.space.space import Architecture


@dataclass(frozen=True)
class ErrorFeedback:
    """Rounds few-bit weights of sub-networks by what the layers of the full network read.

    Smaller layers read the first of that. All outputs of a layer are rounded together, of which a
    sub-network uses the first, and remembered: they depend on its active inputs and its format
    alone. The network's weights must stay as they are.

    listened: another sub-network whose layers are to be listened to.
    """

    supernet: SuperNetwork
    calibration: Sequence[Batch]
    listened: Architecture = field(default_factory=dict)
    memo: WeightMemo = field(default_factory=WeightMemo)

    @classmethod
    def asked_by(
        cls, scheme: QuantScheme, supernet: SuperNetwork, calibration: Sequence[Batch]
    ) -> Self | None:
        """What rounds as a scheme says; None where that is to the nearest levels."""
        return cls(supernet, calibration) if scheme.rounding == "feedback" else None

    @cached_property
    def moments(self) -> Mapping[str, Floats]:
        """Of the inputs of the layers; the sub-network that is listened to is active then."""
        self.supernet.activate(self.listened)
        adapt = self.supernet.adapt_inputs
        batches = [replace(batch, inputs=adapt(batch.inputs)) for batch in self.calibration]
        network = self.supernet.deploy(batches)
        there = {name for name, _ in network.named_modules()}
        layers = [layer.name for layer in self.supernet.layers if layer.kind != "embedding"]
        return input_moments(network, [name for name in layers if name in there], batches)

    def quantizers(
        self, policy: Mapping[str, Format], scheme: QuantScheme
    ) -> dict[str, FeedbackQuantizer]:
        """Of the layers whose weights have so few bits that it matters."""
        kinds = {layer.name: layer.kind for layer in self.supernet.layers}
        found: dict[str, GroupQuantizer] = {}
        for name, entry in policy.items():
            if (quantizer := entry.in_groups(kinds[name], scheme)) is not None:
                found[name] = quantizer
        return {
            name: FeedbackQuantizer(quantizer, self.moments[name])
            for name, quantizer in found.items()
            if name in self.moments
        }

    def round(self, network: nn.Module, quantizers: Mapping[str, FeedbackQuantizer]) -> None:
        """Round the layers of an extracted sub-network in place."""
        for name, whole in quantizers.items():
            weight = network.get_submodule(name).weight
            assert isinstance(weight, nn.Parameter)
            values = self._rounded(name, weight.shape[1], whole)[: len(weight)]
            weight.data = torch.from_numpy(values.copy()).view_as(weight)

    @torch.no_grad()
    def round_active(
        self, network: SuperNetwork, quantizers: Mapping[str, FeedbackQuantizer]
    ) -> None:
        """The same of a copy of the super-network, for the sub-network that is active in it."""
        for name, whole in quantizers.items():
            layer = network.get_submodule(name)
            assert isinstance(layer, (ElasticLinear, ElasticConv2d))
            values = torch.from_numpy(self._rounded(name, layer.active_in, whole))
            part = layer.weight[:, : layer.active_in]
            part.copy_(values.view_as(part))

    def _rounded(self, name: str, inputs: int, whole: FeedbackQuantizer) -> Floats:
        """All outputs of a layer of so many inputs (of a convolution channels), (out, in)."""
        full = self.supernet.get_submodule(name).weight
        assert isinstance(full, nn.Parameter)
        matrix = full.detach()[:, :inputs].flatten(1).numpy()
        columns = matrix.shape[1]
        quantizer = replace(whole, moments=whole.moments[:columns, :columns])
        return self.memo.recall(name, matrix, quantizer).values


def round_active(
    network: SuperNetwork,
    policy: Mapping[str, Format],
    scheme: QuantScheme,
    feedback: ErrorFeedback | None,
) -> dict[str, FixedLevels]:
    """Round weights of few bits in a copy of the super-network, for the sub-network that is active.

    Returns by layer the levels that they keep while they are trained, also of those that are not
    rounded with feedback.
    """
    if feedback is not None:
        feedback.round_active(network, feedback.quantizers(policy, scheme))
    found = {}
    for name, kind in ((layer.name, layer.kind) for layer in network.layers):
        quantizer = policy.get(name, FP32).in_groups(kind, scheme)
        if quantizer is not None:
            weight, _ = network.quantizable(name).active_parameters()
            found[name] = FixedLevels.of(weight.detach().flatten(1).numpy(), quantizer)
    return found
