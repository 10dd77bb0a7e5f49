"""Leaf layers that work at any smaller size: the first rows and columns of their weights.

Each subclasses the torch layer, keeps its active sizes as plain attributes and has two verbs:
`forward` computes with slices, `extract` returns the plain torch layer.
Layers with a weight matrix also have a `precision`, which `forward` imitates.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hardware.formats.format import Format
from hardware.formats.fp32 import FP32
from hardware.formats.scheme import QuantScheme
from supernets.layers import fake_quant
from supernets.layers.twins.fixed_levels import FixedLevels
from supernets.tasks.scale import Scale


def _copy(target: Tensor | None, source: Tensor | None) -> None:
    if target is not None and source is not None:
        with torch.no_grad():
            target.copy_(source)


LayerT = TypeVar("LayerT", bound=nn.Module)
_OF_CONV2D = vars(nn.Conv2d(1, 1, 1, device="meta")).keys() - vars(nn.Module()).keys()


def _plain(kind: type[LayerT], weight: Tensor, bias: Tensor | None, **fields: object) -> LayerT:
    """A layer of torch with these fields and copies of these parameters.

    Its constructor would first fill parameters that nobody sees, which takes longer than the copy.
    """
    layer = kind.__new__(kind)
    nn.Module.__init__(layer)
    vars(layer).update(fields)
    for name, values in (("weight", weight), ("bias", bias)):
        copy = None if values is None else nn.Parameter(values.detach().to("cpu", copy=True))
        layer.register_parameter(name, copy)
    return layer


class Quantizable:
    """The precision a layer imitates; FP32 until a policy is applied.

    levels: those that its weights keep while they are trained in few bits.
    """

    precision: Format = FP32
    scheme: QuantScheme = QuantScheme()
    levels: FixedLevels | None = None

    @abstractmethod
    def active_parameters(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias at the active size, as views."""


class Elastic(nn.Module):
    """A layer that can use the first part of its tensors alone.

    Along their first axis that are `active_out` entries, along the second `active_in`. Which they
    are a super-network's `units` decide.
    """

    active_out: int
    active_in: int


class ElasticLinear(nn.Linear, Elastic, Quantizable):
    """A linear layer that can use its first inputs and first outputs only."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__(in_features, out_features, bias)
        self.active_in, self.active_out = in_features, out_features

    def active_parameters(self) -> tuple[Tensor, Tensor | None]:
        """Weight `(out, in)` and bias `(out,)` at the active size, as views."""
        bias = None if self.bias is None else self.bias[: self.active_out]
        return self.weight[: self.active_out, : self.active_in], bias

    def forward(self, x: Tensor) -> Tensor:
        """Map `(..., active_in)` to `(..., active_out)`."""
        weight, bias = self.active_parameters()
        if self.precision is FP32:
            return F.linear(x, weight, bias)
        # Under autocast the product alone is taken in bfloat16, rounding stays exact.
        return fake_quant.linear(
            x.float(), weight, bias, self.precision, self.scheme, levels=self.levels
        )

    def extract(self) -> nn.Linear:
        """Copy the active part into a plain layer."""
        return _plain(
            nn.Linear,
            *self.active_parameters(),
            in_features=self.active_in,
            out_features=self.active_out,
        )


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
        return _plain(
            ScaledLinear,
            *self.active_parameters(),
            in_features=self.active_in,
            out_features=self.active_out,
            scale=self.scale,
        )


class ElasticEmbedding(nn.Embedding, Quantizable):
    """A table that can use some of its rows only; its width is fixed.

    order: the rows in the order in which fewer of them are used `(rows,)`; an id is a place there
    then, and `place` has that of every row. While all are used an id is the row itself.
    """

    def __init__(self, rows: int, width: int) -> None:
        super().__init__(rows, width)
        self.active_out = rows
        self.register_buffer("order", torch.arange(rows), persistent=False)
        self.register_buffer("place", torch.arange(rows), persistent=False)

    order: Tensor
    place: Tensor

    def use_first(self, order: Tensor) -> None:
        """Use rows in this order from now on, where fewer are used."""
        self.order, self.place = order, order.argsort()

    @property
    def is_whole(self) -> bool:
        """Whether all rows are used."""
        return self.active_out == self.num_embeddings

    def active_parameters(self) -> tuple[Tensor, None]:
        """All of the table, whose rows in use lie anywhere."""
        return self.weight, None

    def forward(self, ids: Tensor) -> Tensor:
        """Look up rows, `(...)` to `(..., width)`."""
        rows = ids if self.is_whole else self.order[ids]
        if self.precision is FP32:
            return F.embedding(rows, self.weight, sparse=self.sparse)
        return fake_quant.embedding(
            rows, self.weight, self.precision, self.scheme, self.levels, self.sparse
        )

    def extract(self) -> nn.Embedding:
        """Copy the rows in use into a plain layer."""
        rows = self.weight.detach()
        weight = rows.clone() if self.is_whole else rows[self.order[: self.active_out]]
        return nn.Embedding(self.active_out, self.embedding_dim, _weight=weight)


class ElasticLayerNorm(nn.LayerNorm, Elastic):
    """Layer normalisation over the first features only."""

    def __init__(self, features: int, eps: float, bias: bool = True) -> None:
        super().__init__(features, eps=eps, bias=bias)
        self.active_out = features

    def active_parameters(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias at the active size, as views, `(active,)`."""
        n = self.active_out
        return self.weight[:n], None if self.bias is None else self.bias[:n]

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `(..., active)` over its last axis."""
        return F.layer_norm(x, (self.active_out,), *self.active_parameters(), self.eps)

    def extract(self) -> nn.LayerNorm:
        """Copy the active part into a plain layer."""
        weight, bias = self.active_parameters()
        plain = nn.LayerNorm(self.active_out, eps=self.eps, bias=bias is not None)
        _copy(plain.weight, weight)
        _copy(plain.bias, bias)
        return plain


class ElasticConv2d(nn.Conv2d, Elastic, Quantizable):
    """A square convolution that can use its first input and output channels only.

    With `groups` it uses the first of them: a group keeps its channels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        *,
        padding: int | None = None,
        groups: int = 1,
        bias: bool = False,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding=kernel_size // 2 if padding is None else padding,
            groups=groups,
            bias=bias,
        )
        self.active_in, self.active_out = in_channels // groups, out_channels

    @property
    def active_groups(self) -> int:
        """Groups that the active channels make."""
        return max(1, self.active_out * self.groups // self.out_channels)

    def active_parameters(self) -> tuple[Tensor, Tensor | None]:
        """Weight `(out, in / groups, height, width)` and bias `(out,)` at the active size."""
        bias = None if self.bias is None else self.bias[: self.active_out]
        return self.weight[: self.active_out, : self.active_in], bias

    def forward(self, x: Tensor) -> Tensor:
        """Convolve the active channels of `(B, C, H, W)` to `(B, active_out, H', W')`."""
        weight, bias = self.active_parameters()
        stride, padding = self.stride[0], int(self.padding[0])
        if self.precision is FP32:
            return fake_quant.convolved(x, weight, bias, stride, padding, self.active_groups)
        return fake_quant.conv2d(
            x.float(),
            weight,
            bias,
            self.precision,
            self.scheme,
            stride=stride,
            padding=padding,
            groups=self.active_groups,
            levels=self.levels,
        )

    def extract(self) -> nn.Conv2d:
        """Copy the active part into a plain layer."""
        fields = {name: getattr(self, name) for name in _OF_CONV2D} | {
            "in_channels": self.active_in * self.active_groups,
            "out_channels": self.active_out,
            "groups": self.active_groups,
        }
        return _plain(nn.Conv2d, *self.active_parameters(), **fields)


class ElasticBatchNorm2d(nn.BatchNorm2d, Elastic):
    """Batch normalisation of the first channels only.

    In training only the full network moves the running statistics: those of a sub-network are
    taken anew from its own activations before it is judged.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__(channels, eps)
        self.active_out, self.track = channels, True

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `(B, active, H, W)` per channel."""
        n = self.active_out
        mean, var = self.running_mean, self.running_var
        assert mean is not None
        assert var is not None
        moving = not self.training or self.track
        return F.batch_norm(
            x,
            mean[:n] if moving else None,
            var[:n] if moving else None,
            self.weight[:n],
            self.bias[:n],
            training=self.training,
            momentum=self.momentum or 0.0,
            eps=self.eps,
        )

    def extract(self) -> nn.BatchNorm2d:
        """Copy the active part into a plain layer."""
        plain = nn.BatchNorm2d(self.active_out, eps=self.eps)
        for name in ("weight", "bias", "running_mean", "running_var"):
            _copy(getattr(plain, name), getattr(self, name)[: self.active_out])
        return plain
