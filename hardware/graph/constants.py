"""Constants of an exported graph."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

SHARED = 64
"""Entries of a constant from which on equal ones are worth sharing."""


def share_constants(graph: ir.Graph, parameters: Mapping[str, object]) -> None:
    """Keep one of equal constants that are large, such as every block's table of indices."""
    known: dict[tuple[object, ...], ir.Value] = {}
    for name, value in tuple(graph.initializers.items()):
        if name in parameters or value.const_value is None or value.const_value.size < SHARED:
            continue
        array = value.const_value.numpy()
        first = known.setdefault((array.dtype.str, array.shape, array.tobytes()), value)
        if first is not value:
            ir.convenience.replace_all_uses_with(value, first)
            del graph.initializers[name]
