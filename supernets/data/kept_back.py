"""The part of validation that nothing is chosen by, so that what is promised on it holds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from supernets.data.data import TaskData
from supernets.data.targets.targets import strata

FEWEST_KEPT = 30
"""Samples below which what is kept back tells nothing of models of like accuracy."""
SEED = 0  # a property of the data, not of a run: what a run has not seen, the next one has not


def keep_back(data: TaskData, part: float) -> TaskData:
    """Divide validation into what the search judges by and what is kept back, class by class.

    part: of validation; where that is under `FEWEST_KEPT` samples nothing is kept back.
    """
    whole, labels = data.validation, data.validation.labels
    values = labels.numpy() if isinstance(labels, torch.Tensor) else np.zeros(len(whole))
    kept = kept_rows(strata(values), part)
    if len(kept) < FEWEST_KEPT:
        return data
    rest = np.setdiff1d(np.arange(len(whole)), kept)
    note = (
        f"validation: {len(kept):,} of {len(whole):,} samples are kept back from the search, to "
        "compare models with the reference on (data.kept_back)"
    )
    return replace(
        data,
        validation=whole.part(torch.from_numpy(rest)),
        kept_back=whole.part(torch.from_numpy(kept)),
        notes=(*data.notes, note),
    )


def kept_rows(classes: NDArray[np.int64], part: float) -> NDArray[np.int64]:
    """Rows to keep back, in order: `part` of every class up to one row, and of all in all.

    classes: of every row `(n,)`.
    """
    rng = np.random.default_rng(SEED)
    order = rng.permutation(len(classes))
    order = order[np.argsort(classes[order], kind="stable")]
    # Where a multiple of 1 / part is passed along the classes, whose rows are in random order.
    passed = np.floor(np.arange(1, len(order) + 1) * part + 0.5)
    return np.sort(order[np.diff(passed, prepend=0.0) > 0])
