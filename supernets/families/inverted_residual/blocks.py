"""The parts of a network of inverted residual blocks, plain and elastic.

B batch, C channels, H height, W width
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from supernets.families.inverted_residual.sizes import BlockPlan, Convolution
from supernets.families.staged.plain import PooledNetwork
from supernets.layers.composed import Composed
from supernets.layers.coupled_units import Units, read_by, written_by
from supernets.layers.elastic import ElasticBatchNorm2d, ElasticConv2d
from supernets.layers.squeeze_excite import ElasticSqueezeExcite, SqueezeExcite


def padding(plan: Convolution) -> nn.Module:
    """Zeros that the convolution cannot add itself, because both sides get different numbers."""
    before, behind = plan.pads
    return nn.Identity() if before == behind else nn.ZeroPad2d((before, behind) * 2)


def convolution(in_width: int, out_width: int, plan: Convolution, groups: int = 1) -> ElasticConv2d:
    """The convolution behind `padding`."""
    before, behind = plan.pads
    own = before if before == behind else 0
    return ElasticConv2d(in_width, out_width, plan.kernel, plan.stride, padding=own, groups=groups)


class Stem(nn.Module):
    """A convolution with its norm and activation: the first one, and the last."""

    def __init__(
        self, pad: nn.Module, conv: nn.Module, norm: nn.Module, activation: nn.Module
    ) -> None:
        super().__init__()
        self.pad, self.conv, self.norm, self.activation = pad, conv, norm, activation

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Convolve, normalise, activate."""
        y_BCHW: Tensor = self.activation(self.norm(self.conv(self.pad(x_BCHW))))
        return y_BCHW


class Block(nn.Module):
    """Widen, convolve every channel on its own, weigh the channels, narrow again."""

    def __init__(
        self,
        expand: tuple[nn.Module, nn.Module] | None,
        pad: nn.Module,
        depthwise: tuple[nn.Module, nn.Module],
        squeeze: SqueezeExcite | None,
        project: tuple[nn.Module, nn.Module],
        activation: type[nn.Module],
        residual: bool,
    ) -> None:
        super().__init__()
        self.expand_conv: nn.Module | None = expand[0] if expand else None
        self.expand_norm: nn.Module | None = expand[1] if expand else None
        self.pad, self.squeeze = pad, squeeze
        self.depthwise_conv, self.depthwise_norm = depthwise
        self.project_conv, self.project_norm = project
        self.expand_activation, self.depthwise_activation = activation(), activation()
        self.residual = residual

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Transform, and add the input if the block is residual."""
        y_BCHW = x_BCHW
        if self.expand_conv is not None and self.expand_norm is not None:
            y_BCHW = self.expand_activation(self.expand_norm(self.expand_conv(y_BCHW)))
        y_BCHW = self.depthwise_norm(self.depthwise_conv(self.pad(y_BCHW)))
        y_BCHW = self.depthwise_activation(y_BCHW)
        if self.squeeze is not None:
            y_BCHW = self.squeeze(y_BCHW)
        y_BCHW = self.project_norm(self.project_conv(y_BCHW))
        added: Tensor = x_BCHW + y_BCHW if self.residual else y_BCHW
        return added


class ElasticInvertedResidual(Composed, Block):
    """Block of elastic layers; its inner channels can be left out."""

    expand_conv: ElasticConv2d | None
    expand_norm: ElasticBatchNorm2d | None
    depthwise_conv: ElasticConv2d
    depthwise_norm: ElasticBatchNorm2d
    squeeze: ElasticSqueezeExcite | None
    project_conv: ElasticConv2d
    project_norm: ElasticBatchNorm2d

    def __init__(self, plan: BlockPlan, eps: float, activation: type[nn.Module]) -> None:
        inner = plan.inner_width
        super().__init__(
            (ElasticConv2d(plan.in_width, inner, 1), ElasticBatchNorm2d(inner, eps))
            if plan.expands
            else None,
            padding(plan.depthwise),
            (convolution(inner, inner, plan.depthwise, inner), ElasticBatchNorm2d(inner, eps)),
            ElasticSqueezeExcite(inner, plan.squeezed, activation) if plan.squeezed else None,
            (ElasticConv2d(inner, plan.out_width, 1), ElasticBatchNorm2d(plan.out_width, eps)),
            activation,
            plan.residual,
        )

    def inner_units(self, path: str) -> Units:
        """The inner channels; they leave to the narrowing, and to the squeezing."""
        assert self.expand_conv is not None
        assert self.expand_norm is not None
        parts = [
            *written_by(self.expand_conv, self.expand_norm),
            *written_by(self.depthwise_conv, self.depthwise_norm),
            *(self.squeeze.parts() if self.squeeze is not None else ()),
            read_by(self.project_conv),
        ]
        return Units(f"{path}.inner_width", self.depthwise_conv.out_channels, tuple(parts))


class InvertedResidualNet(PooledNetwork):
    """Network of inverted residual blocks; they keep the name they had where they come from."""

    def __init__(self, stem: Stem, blocks: Mapping[str, Block], top: Stem, head: nn.Linear) -> None:
        super().__init__()
        self.stem, self.blocks, self.top, self.head = stem, nn.ModuleDict(blocks), top, head

    def path(self) -> Iterable[nn.Module]:
        """The blocks to run, in order."""
        return self.blocks.values()

    def maps(self, pixel_values: Tensor) -> Tensor:
        """The last feature maps, `(B, C, H, W)`."""
        x_BCHW: Tensor = self.top(super().maps(pixel_values))
        return x_BCHW
