"""In what a head counts numbers of any size."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Scale(NamedTuple):
    """Where numbers are counted from, and in what."""

    center: float
    unit: float

    def counted(self, numbers: Tensor) -> Tensor:
        """Numbers, in units from the center."""
        return (numbers - self.center) / self.unit

    def numbers(self, counted: Tensor) -> Tensor:
        """What was counted; in single precision, as half precision ends at 65,504."""
        return counted.float() * self.unit + self.center


UNSCALED = Scale(0.0, 1.0)
