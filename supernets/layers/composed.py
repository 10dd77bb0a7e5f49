"""Modules that are made of elastic layers, and how they are copied into plain ones."""

from __future__ import annotations

from typing import Any

from torch import nn


class Composed(nn.Module):
    """A module of elastic layers whose forward pass is a plain module's, its next base class.

    Nothing but its layers may depend on their active sizes.
    """

    def extract(self) -> Any:
        """Copy the active part into the plain module."""
        bases = (base for base in type(self).__mro__ if issubclass(base, nn.Module))
        return _rebuilt(self, next(base for base in bases if not issubclass(base, Composed)))


def extracted(module: nn.Module | None) -> Any:
    """A plain copy of the active part of any module, None of none."""
    if module is None:
        return None
    own = getattr(module, "extract", None)  # elastic layers have one each
    return _rebuilt(module, type(module)) if own is None else own()


def _rebuilt(module: nn.Module, kind: type[nn.Module]) -> nn.Module:
    """The same module as one of `kind`: its values, copies of its parameters, plain children."""
    copy = kind.__new__(kind)
    nn.Module.__init__(copy)
    vars(copy).update({k: v for k, v in vars(module).items() if k not in vars(copy)})
    for name, parameter in module._parameters.items():
        own = None if parameter is None else nn.Parameter(parameter.detach().clone())
        copy.register_parameter(name, own)
    assert not list(module.buffers(recurse=False)), "only elastic layers have buffers"
    for name, child in module._modules.items():
        copy.register_module(name, extracted(child))
    return copy
