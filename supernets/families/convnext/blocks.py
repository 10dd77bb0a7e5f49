"""The parts of a ConvNeXt, plain and elastic.

B batch, C channels, H height, W width
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from supernets.families.staged.plain import StagedNetwork
from supernets.layers.composed import Composed
from supernets.layers.elastic import ElasticConv2d, ElasticLayerNorm, ElasticLinear
from supernets.layers.response_norm import ElasticResponseNorm

EPS = 1e-6
"""Of every LayerNorm but the last."""


def over_channels(norm: nn.Module, x_BCHW: Tensor) -> Tensor:
    """Normalise every pixel over its channels."""
    normalised: Tensor = norm(x_BCHW.permute(0, 2, 3, 1))
    return normalised.permute(0, 3, 1, 2)


class Stem(nn.Module):
    """Cut the image into patches, and normalise them."""

    def __init__(self, conv: nn.Module, norm: nn.Module) -> None:
        super().__init__()
        self.conv, self.norm = conv, norm

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """Turn images into the first feature maps."""
        return over_channels(self.norm, self.conv(pixels_BCHW))


class Downsample(nn.Module):
    """Halve height and width between two stages."""

    def __init__(self, norm: nn.Module, conv: nn.Module) -> None:
        super().__init__()
        self.norm, self.conv = norm, conv

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Turn one stage's feature maps into the next one's."""
        halved: Tensor = self.conv(over_channels(self.norm, x_BCHW))
        return halved


class Block(nn.Module):
    """A depthwise convolution, and two linear layers on every pixel, beside a shortcut."""

    def __init__(
        self,
        conv: nn.Module,
        norm: nn.Module,
        fc1: nn.Module,
        response_norm: nn.Module | None,
        fc2: nn.Module,
    ) -> None:
        super().__init__()
        self.conv, self.norm, self.fc1, self.fc2 = conv, norm, fc1, fc2
        self.response_norm = response_norm

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Add the branch to its input."""
        y_BHWC = self.norm(self.conv(x_BCHW).permute(0, 2, 3, 1))
        y_BHWC = F.gelu(self.fc1(y_BHWC))
        if self.response_norm is not None:
            y_BHWC = self.response_norm(y_BHWC)
        added: Tensor = x_BCHW + self.fc2(y_BHWC).permute(0, 3, 1, 2)
        return added


class ElasticConvNextBlock(Composed, Block):
    """Block of elastic layers; its neurons can be left out."""

    conv: ElasticConv2d
    norm: ElasticLayerNorm
    fc1: ElasticLinear
    fc2: ElasticLinear
    response_norm: ElasticResponseNorm | None

    def __init__(self, width: int, inner_width: int, response_norm: bool) -> None:
        super().__init__(
            ElasticConv2d(width, width, 7, groups=width, bias=True),
            ElasticLayerNorm(width, EPS),
            ElasticLinear(width, inner_width),
            ElasticResponseNorm(inner_width) if response_norm else None,
            ElasticLinear(inner_width, width),
        )


class ConvNext(StagedNetwork):
    """ConvNeXt: before each stage but the first a convolution that halves the resolution."""

    def __init__(
        self,
        stem: Stem,
        downsamples: Sequence[Downsample],
        stages: Sequence[Mapping[int, Block]],
        norm: nn.LayerNorm,
        head: nn.Linear,
    ) -> None:
        super().__init__(stem, stages, head)
        self.norm = norm
        self.downsamples = nn.ModuleDict(
            {str(stage): module for stage, module in enumerate(downsamples, start=1)}
        )

    def features(self, pixel_values: Tensor) -> Tensor:
        """What the classifier reads of each image, `(B, C)`."""
        pooled: Tensor = self.norm(super().features(pixel_values))
        return pooled

    def maps(self, pixel_values: Tensor) -> Tensor:
        """The last feature maps, `(B, C, H, W)`."""
        x_BCHW: Tensor = self.stem(pixel_values)
        for stage, blocks in enumerate(self.stage_paths()):
            if stage:
                x_BCHW = self.downsamples[str(stage)](x_BCHW)
            for block in blocks:
                x_BCHW = block(x_BCHW)
        return x_BCHW
