"""Weights of few bits; see `hardware.formats.codebook.weights` for their choice."""

from __future__ import annotations

import torch
from torch import Tensor

from hardware.formats.codebook.weights import (
    MAGNITUDES,
    SHRINKS,
    Codebook,
    step_sizes,
)
from hardware.formats.scheme import QuantScheme
from supernets.layers.twins.rounding import groups_of, peaks, row_scale
from supernets.layers.twins.twin import IntegerTwin


class CodebookTwin(IntegerTwin):
    """The twin of the format of a codebook."""

    def __init__(self, book: Codebook) -> None:
        self.book = book

    def rounded(self, weight: Tensor, scheme: QuantScheme) -> Tensor:
        largest, columns = self.largest(scheme), weight.shape[1]
        grouped = groups_of(weight, min(scheme.group_size or columns, columns))
        scale = row_scale(weight, largest)[..., None]
        scaled, ideal = grouped / scale, peaks(grouped) / scale
        sizes = torch.from_numpy(step_sizes(largest)).to(weight.device)
        products = torch.from_numpy(self.book.products(largest)).to(weight)
        middles = torch.from_numpy(self.book.middles).to(weight.device)
        best, least = torch.zeros_like(scaled), torch.full_like(ideal, torch.inf)
        for shrink in SHRINKS:
            size = (ideal.abs() * (shrink * MAGNITUDES / largest)).round()
            step = size.clamp(1, MAGNITUDES).long() - 1 + MAGNITUDES * (ideal > 0)
            codes = torch.bucketize(scaled / sizes[step], middles)
            values = products.flatten()[step * products.shape[1] + codes]
            error = (values - scaled).square_().sum(-1, keepdim=True)
            best = torch.where(error < least, values, best)
            least = torch.minimum(error, least)
        return (best * scale).flatten(1)[:, :columns]
