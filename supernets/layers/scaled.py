"""A linear layer whose outputs are numbers of a scale of their own."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from supernets.layers.elastic import ElasticLinear, plain_layer


class Scale(NamedTuple):
    """Where numbers are counted from, and in what."""

    center: float
    unit: float

    def counted(self, numbers: Tensor) -> Tensor:
        """Numbers, in units from the center."""
        return (numbers - self.center) / self.unit

    def numbers(self, counted: Tensor) -> Tensor:
        """What was counted; in single precision, as half precision ends at 65,504."""
        return counted.float() * self.unit + self.center


PLAIN = Scale(0.0, 1.0)


class ScaledLinear(nn.Linear):
    """A linear layer that counts in a scale."""

    scale: Scale

    def forward(self, x: Tensor) -> Tensor:
        """Map `(..., in)` to `(..., out)`."""
        return self.scale.numbers(super().forward(x))


class ElasticScaledLinear(ElasticLinear):
    """The same at any smaller size.

    Its weights are of a size, and learn at a pace, that do not depend on what is measured.
    """

    scale: Scale

    @classmethod
    def of(cls, layer: ElasticLinear, scale: Scale) -> ElasticScaledLinear:
        """A layer with the weights of this one, which count in a scale from now on."""
        found = cls(layer.in_features, layer.out_features)
        found.load_state_dict(layer.state_dict())
        found.scale = scale
        return found

    def forward(self, x: Tensor) -> Tensor:
        """Map `(..., active_in)` to `(..., active_out)`."""
        return self.scale.numbers(super().forward(x))

    @torch.no_grad()
    def convert(self) -> None:
        """Let weights that were to give the numbers themselves give them still."""
        self.weight.copy_(self.weight / self.scale.unit)
        self.bias.copy_(self.scale.counted(self.bias))

    def extract(self) -> ScaledLinear:
        """Copy the active part into a plain layer."""
        return plain_layer(
            ScaledLinear,
            *self.active_parameters(),
            in_features=self.active_in,
            out_features=self.active_out,
            scale=self.scale,
        )
