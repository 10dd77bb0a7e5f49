"""Second moments of what layers read, by which rounding errors of their weights are judged."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hardware.formats.weight_memo import Floats
from supernets.data.data import Batch

SAMPLES = 128
"""Samples that are looked at at least."""
POSITIONS = 64
"""Of each sample at most about so many tokens or patches of a layer, evenly spaced."""


@torch.inference_mode()
def input_moments(
    network: nn.Module, layers: Iterable[str], batches: Iterable[Batch]
) -> dict[str, Floats]:
    """Layer -> E[x x^T] of what its outputs are products with, `(in, in)`.

    Of a convolution x is a patch, flattened as its weight is. Left out are convolutions in groups,
    whose outputs read different x, layers that nothing reaches, inputs that are no numbers, and
    tokens that only fill up texts, of which no output is read.
    Ends once most layers have seen as many x as the least number of samples can give.
    """
    found = {}
    for name in layers:
        module = network.get_submodule(name)
        if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1):
            found[name] = _Moments(module)
    samples, enough = 0, SAMPLES * POSITIONS
    for batch in batches:
        for moments in found.values():
            moments.mask = batch.inputs.get("attention_mask")
        network(**batch.inputs)
        samples += len(batch.labels)
        seen = sum(moments.count >= enough for moments in found.values())
        if samples >= SAMPLES and 2 * seen > len(found):
            break
    means = {name: moments.taken() for name, moments in found.items() if moments.count}
    return {name: mean for name, mean in means.items() if np.isfinite(mean).all()}


class _Moments:
    """Listens to a layer and adds up. mask: which tokens of a batch are text `(B, T)`, if known."""

    mask: Tensor | None = None

    def __init__(self, module: nn.Linear | nn.Conv2d) -> None:
        columns = module.weight[0].numel()
        self.sum, self.count = torch.zeros(columns, columns), 0
        self._hook = module.register_forward_hook(self._add)

    def taken(self) -> Floats:
        """The mean; nothing is added any more."""
        self._hook.remove()
        mean: Floats = (self.sum / self.count).numpy()
        return mean

    def _add(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        (x,) = inputs
        x = patches(module, x, output) if isinstance(module, nn.Conv2d) else tokens(x, self.mask)
        self.sum.addmm_(x.T, x)
        self.count += len(x)


def tokens(x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Tokens `(B, ..., in)` as `(n, in)`; those that a mask of their shape says are text."""
    per_sample = x[0].numel() // x.shape[-1]
    if mask is None or mask.shape != x.shape[:-1]:
        mask = torch.ones(x.shape[:-1])
    found = x[mask.bool()]
    return found[:: -(-per_sample // POSITIONS)]


def patches(layer: nn.Conv2d, x: Tensor, output: Tensor) -> Tensor:
    """Patches that a convolution `(B, C, H, W)` multiplies with its weights, `(n, C * h * w)`."""
    apart = math.ceil(math.sqrt(output[0, 0].numel() / POSITIONS))
    assert isinstance(layer.padding, tuple)
    stride = (layer.stride[0] * apart, layer.stride[1] * apart)
    columns = F.unfold(x, layer.kernel_size, layer.dilation, layer.padding, stride)
    return columns.transpose(1, 2).flatten(0, 1)
