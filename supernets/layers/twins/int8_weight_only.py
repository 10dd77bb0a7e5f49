"""INT8 weights, computed in FP32."""

from torch import Tensor

from hardware.formats.scheme import QuantScheme
from supernets.layers.twins.int8 import TWIN as INT8
from supernets.layers.twins.twin import Twin


class _Int8WeightOnly(Twin):
    def rounded(self, weight: Tensor, scheme: QuantScheme) -> Tensor:
        return INT8.rounded(weight, scheme)


TWIN = _Int8WeightOnly()
