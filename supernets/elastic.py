"""Leaf layers that work at any smaller size: the first rows and columns of their weights.

Each subclasses the torch layer, keeps its active sizes as plain attributes and has three verbs:
`activate` sets the sizes, `forward` computes with slices, `extract` returns the plain torch layer.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def _copy(target: Tensor | None, source: Tensor | None) -> None:
    if target is not None and source is not None:
        with torch.no_grad():
            target.copy_(source)


class ElasticLinear(nn.Linear):
    """A linear layer that can use its first inputs and first outputs only."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__(in_features, out_features, bias)
        self.activate(in_features, out_features)

    def activate(self, in_features: int, out_features: int) -> None:
        """Use the first `in_features` columns and `out_features` rows."""
        assert 0 < in_features <= self.in_features
        assert 0 < out_features <= self.out_features
        self.active_in, self.active_out = in_features, out_features

    def active_parameters(self) -> tuple[Tensor, Tensor | None]:
        """Weight `(out, in)` and bias `(out,)` at the active size, as views."""
        bias = None if self.bias is None else self.bias[: self.active_out]
        return self.weight[: self.active_out, : self.active_in], bias

    def forward(self, x: Tensor) -> Tensor:
        """Map `(..., active_in)` to `(..., active_out)`."""
        return F.linear(x, *self.active_parameters())

    def extract(self) -> nn.Linear:
        """Copy the active part into a plain layer."""
        weight, bias = self.active_parameters()
        plain: nn.Linear = nn.utils.skip_init(
            nn.Linear, self.active_in, self.active_out, bias=bias is not None
        )
        _copy(plain.weight, weight)
        _copy(plain.bias, bias)
        return plain


class ElasticLayerNorm(nn.LayerNorm):
    """Layer normalisation over the first features only."""

    def __init__(self, features: int, eps: float) -> None:
        super().__init__(features, eps=eps)
        self.activate(features)

    def activate(self, features: int) -> None:
        """Normalise over `features` values."""
        assert 0 < features <= self.normalized_shape[0]
        self.active = features

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `(..., active)` over its last axis."""
        weight, bias = self.weight[: self.active], self.bias[: self.active]
        return F.layer_norm(x, (self.active,), weight, bias, self.eps)

    def extract(self) -> nn.LayerNorm:
        """Copy the active part into a plain layer."""
        plain = nn.LayerNorm(self.active, eps=self.eps)
        _copy(plain.weight, self.weight[: self.active])
        _copy(plain.bias, self.bias[: self.active])
        return plain
