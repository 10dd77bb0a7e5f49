"""The parts of a ResNet, plain and elastic.

B batch, C channels, H height, W width
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from supernets.layers.composed import Composed
from supernets.layers.elastic import ElasticBatchNorm2d, ElasticConv2d


class Stem(nn.Module):
    """First convolution, and a pooling that some networks have."""

    def __init__(self, conv: nn.Module, norm: nn.Module, pool: bool) -> None:
        super().__init__()
        self.conv, self.norm, self.pool = conv, norm, pool

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """Turn images into the first feature maps."""
        x_BCHW: Tensor = F.relu(self.norm(self.conv(pixels_BCHW)))
        return F.max_pool2d(x_BCHW, 3, stride=2, padding=1) if self.pool else x_BCHW


class ResidualBlock(nn.Module):
    """Two convolutions (basic) or three (bottleneck) beside a shortcut."""

    def __init__(
        self,
        convs: Sequence[nn.Module],
        norms: Sequence[nn.Module],
        shortcut: nn.Module | None = None,
        shortcut_norm: nn.Module | None = None,
    ) -> None:
        super().__init__()
        for number, (conv, norm) in enumerate(zip(convs, norms, strict=True), start=1):
            self.add_module(f"conv{number}", conv)
            self.add_module(f"norm{number}", norm)
        self.n_convs, self.shortcut, self.shortcut_norm = len(convs), shortcut, shortcut_norm

    def pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """Each convolution of the branch with its norm, in order."""
        numbers = range(1, self.n_convs + 1)
        return [(getattr(self, f"conv{n}"), getattr(self, f"norm{n}")) for n in numbers]

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Add branch and shortcut."""
        y_BCHW = x_BCHW
        for number, (conv, norm) in enumerate(self.pairs(), start=1):
            y_BCHW = norm(conv(y_BCHW))
            y_BCHW = F.relu(y_BCHW) if number < self.n_convs else y_BCHW
        if self.shortcut is not None and self.shortcut_norm is not None:
            x_BCHW = self.shortcut_norm(self.shortcut(x_BCHW))
        return F.relu(y_BCHW + x_BCHW)


class ElasticResidualBlock(Composed, ResidualBlock):
    """Residual block of elastic layers."""

    shortcut: ElasticConv2d | None
    shortcut_norm: ElasticBatchNorm2d | None

    def __init__(self, widths: Sequence[int], strides: Sequence[int], kernels: Sequence[int]):
        convs = [
            ElasticConv2d(before, after, kernel, stride)
            for before, after, kernel, stride in zip(
                widths, widths[1:], kernels, strides, strict=False
            )
        ]
        norms = [ElasticBatchNorm2d(width) for width in widths[1:]]
        if widths[0] == widths[-1] and max(strides) == 1:
            super().__init__(convs, norms)
        else:
            shortcut = ElasticConv2d(widths[0], widths[-1], 1, max(strides))
            super().__init__(convs, norms, shortcut, ElasticBatchNorm2d(widths[-1]))

    def elastic_pairs(self) -> list[tuple[ElasticConv2d, ElasticBatchNorm2d]]:
        """Each convolution of the branch with its norm, in order."""
        return cast("list[tuple[ElasticConv2d, ElasticBatchNorm2d]]", self.pairs())
