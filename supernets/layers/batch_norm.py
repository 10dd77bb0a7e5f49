"""BatchNorm before deployment: statistics of the sub-network's own, then folded away."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from supernets.data.data import Batch

Network = TypeVar("Network", bound=nn.Module)


@torch.no_grad()
def needs_two_samples(network: nn.Module, inputs: Mapping[str, Tensor]) -> bool:
    """Whether a BatchNorm sees but one value per channel of a sample, so that one has no variance.

    inputs: an example. The network comes back in evaluation mode.
    """
    found: list[bool] = []

    def look(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        found.append(arguments[0][0, 0].numel() == 1)

    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(look) for norm in norms]
    network.eval()(**inputs)
    for hook in hooks:
        hook.remove()
    return any(found)


@torch.no_grad()
def recalibrate(network: nn.Module, batches: Iterable[Batch]) -> None:
    """Replace all running statistics by the mean over the batches; without any, keep them."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for number, batch in enumerate(batches):
        for norm in norms if number == 0 else ():
            norm.reset_running_stats()
            norm.momentum = None  # torch's way to say: average over all batches
        network.train()
        network(**batch.to(next(network.parameters()).device).inputs)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()


@torch.no_grad()
def fold(network: Network) -> Network:
    """Move every BatchNorm into the convolution before it, in place.

    The norm of `conv1` is found as `norm1`, that of `conv` as `norm`, of `shortcut` as
    `shortcut_norm`; an identity takes its place.
    """
    for module in network.modules():
        for name, conv in list(module.named_children()):
            norm_name = "shortcut_norm" if name == "shortcut" else name.replace("conv", "norm")
            norm = getattr(module, norm_name, None)
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                folded = nn.utils.fuse_conv_bn_eval(conv.eval(), norm.eval())
                setattr(module, name, folded)
                setattr(module, norm_name, nn.Identity())
    return network
