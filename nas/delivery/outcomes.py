"""What delivered models answered about every sample, kept beside the targets."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from hardware.files import write_atomically
from supernets.metrics.metric import Array, Rows
from supernets.tasks.predictions import Predictions


def write_outcomes(path: Path, found: Mapping[str, Predictions]) -> None:
    """Write the outputs and targets of every split, a row per sample.

    path: of the file NAME.npz. Rows of different length stand one after the other, with the number
    of each beside them.
    """
    arrays: dict[str, Array] = {}
    for split, predictions in found.items():
        for name, rows in zip(("outputs", "targets"), predictions.rows, strict=True):
            if isinstance(rows, np.ndarray):
                arrays[f"{split}_{name}"] = rows
            else:
                arrays[f"{split}_{name}"] = np.concatenate(rows)
                arrays[f"{split}_{name}_lengths"] = np.array([len(row) for row in rows])
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **arrays)
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, content.getvalue())


def read_outcomes(path: Path) -> dict[str, tuple[Rows, Rows]]:
    """Split -> outputs and targets of every sample, as `write_outcomes` had them."""
    with np.load(path, allow_pickle=False) as arrays:
        splits = [name.removesuffix("_outputs") for name in arrays if name.endswith("_outputs")]

        def rows(name: str) -> Rows:
            lengths = arrays.get(f"{name}_lengths")
            if lengths is None:
                return np.asarray(arrays[name])
            return np.split(arrays[name], np.cumsum(lengths)[:-1])

        return {split: (rows(f"{split}_outputs"), rows(f"{split}_targets")) for split in splits}
