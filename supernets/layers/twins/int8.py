"""INT8 weights: symmetric, one scale per row."""

from torch import Tensor

from hardware.formats.scheme import QuantScheme
from supernets.layers.twins.rounding import row_scale
from supernets.layers.twins.twin import IntegerTwin


class _Int8(IntegerTwin):
    def rounded(self, weight: Tensor, scheme: QuantScheme) -> Tensor:
        scale = row_scale(weight, self.largest(scheme))
        return (weight / scale).round() * scale


TWIN = _Int8()
