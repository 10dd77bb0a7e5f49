"""FP32: nothing is rounded."""

from torch import Tensor

from hardware.formats.scheme import QuantScheme
from supernets.layers.twins.twin import Twin


class _Fp32(Twin):
    def rounded(self, weight: Tensor, scheme: QuantScheme) -> Tensor:
        return weight


TWIN = _Fp32()
