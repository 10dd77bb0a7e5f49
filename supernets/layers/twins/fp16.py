"""FP16 weights."""

from torch import Tensor

from hardware.formats.scheme import QuantScheme
from supernets.layers.twins.twin import Twin


class _Fp16(Twin):
    def rounded(self, weight: Tensor, scheme: QuantScheme) -> Tensor:
        return weight.half().to(weight.dtype)


TWIN = _Fp16()
