"""The blocks of a RegNet, plain and elastic.

B batch, C channels, H height, W width
"""

from __future__ import annotations

from torch import Tensor, nn

from supernets.layers.composed import Composed
from supernets.layers.coupled_units import Units, read_by, written_by
from supernets.layers.elastic import ElasticBatchNorm2d, ElasticConv2d
from supernets.layers.squeeze_excite import ElasticSqueezeExcite, SqueezeExcite

Normed = tuple[nn.Module, nn.Module]
"""A convolution and its norm."""


class Block(nn.Module):
    """Three convolutions, the middle one of groups, beside a shortcut."""

    def __init__(
        self,
        first: Normed,
        grouped: Normed,
        squeeze: SqueezeExcite | None,
        last: Normed,
        shortcut: Normed | None,
    ) -> None:
        super().__init__()
        self.conv1, self.norm1 = first
        self.conv2, self.norm2 = grouped
        self.squeeze = squeeze
        self.conv3, self.norm3 = last
        self.shortcut: nn.Module | None = shortcut[0] if shortcut else None
        self.shortcut_norm: nn.Module | None = shortcut[1] if shortcut else None
        self.activation1, self.activation2, self.activation = nn.ReLU(), nn.ReLU(), nn.ReLU()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Add branch and shortcut."""
        y_BCHW = self.activation1(self.norm1(self.conv1(x_BCHW)))
        y_BCHW = self.activation2(self.norm2(self.conv2(y_BCHW)))
        if self.squeeze is not None:
            y_BCHW = self.squeeze(y_BCHW)
        y_BCHW = self.norm3(self.conv3(y_BCHW))
        if self.shortcut is not None and self.shortcut_norm is not None:
            x_BCHW = self.shortcut_norm(self.shortcut(x_BCHW))
        added: Tensor = self.activation(y_BCHW + x_BCHW)
        return added


class ElasticRegNetBlock(Composed, Block):
    """Block of elastic layers; its groups can be left out."""

    conv1: ElasticConv2d
    conv2: ElasticConv2d
    conv3: ElasticConv2d
    norm1: ElasticBatchNorm2d
    norm2: ElasticBatchNorm2d
    norm3: ElasticBatchNorm2d
    squeeze: ElasticSqueezeExcite | None
    shortcut: ElasticConv2d | None
    shortcut_norm: ElasticBatchNorm2d | None

    def __init__(self, before: int, width: int, stride: int, groups: int, squeeze: bool) -> None:
        def normed(conv: ElasticConv2d) -> Normed:
            return conv, ElasticBatchNorm2d(conv.out_channels)

        narrowed = before != width or stride > 1
        super().__init__(
            normed(ElasticConv2d(before, width, 1)),
            normed(ElasticConv2d(width, width, 3, stride, groups=groups)),
            ElasticSqueezeExcite(width, round(before / 4), nn.ReLU) if squeeze else None,
            normed(ElasticConv2d(width, width, 1)),
            normed(ElasticConv2d(before, width, 1, stride)) if narrowed else None,
        )

    def group_units(self, gene: str) -> Units:
        """The groups; they leave to the last convolution, and to the squeezing."""
        parts = [
            *written_by(self.conv1, self.norm1),
            *written_by(self.conv2, self.norm2),
            *(self.squeeze.parts() if self.squeeze is not None else ()),
            read_by(self.conv3),
        ]
        return Units(gene, self.conv2.groups, tuple(parts))
