"""Squeeze-and-excitation: every channel weighed by what all of them are on average.

After Hu et al. 2018, "Squeeze-and-Excitation Networks". B batch, C channels, H height, W width
"""

from __future__ import annotations

from torch import Tensor, nn

from supernets.layers.composed import Composed
from supernets.layers.coupled_units import Part, read_by, written_by
from supernets.layers.elastic import ElasticConv2d


class SqueezeExcite(nn.Module):
    """Two convolutions of one pixel, whose result multiplies the channels."""

    def __init__(self, reduce: nn.Conv2d, expand: nn.Conv2d, activation: nn.Module) -> None:
        super().__init__()
        self.reduce, self.expand, self.activation = reduce, expand, activation
        self.gate = nn.Sigmoid()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Weigh the channels."""
        mean_BC11 = x_BCHW.mean(dim=(2, 3), keepdim=True)
        weights_BC11: Tensor = self.gate(self.expand(self.activation(self.reduce(mean_BC11))))
        return x_BCHW * weights_BC11


class ElasticSqueezeExcite(Composed, SqueezeExcite):
    """Squeeze-and-excitation of the first channels; to how many they are squeezed is fixed."""

    reduce: ElasticConv2d
    expand: ElasticConv2d

    def __init__(self, channels: int, squeezed: int, activation: type[nn.Module]) -> None:
        reduce = ElasticConv2d(channels, squeezed, 1, bias=True)
        super().__init__(reduce, ElasticConv2d(squeezed, channels, 1, bias=True), activation())

    def parts(self) -> list[Part]:
        """What it holds of each channel."""
        return [read_by(self.reduce), *written_by(self.expand)]
