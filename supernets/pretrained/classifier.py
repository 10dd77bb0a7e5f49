"""A checkpoint's classifier: whether it is the data's, and its rows in the data's order."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from supernets.families.hugging_face import CheckpointError, Tensors
from supernets.tasks.task import Task


def classifier(
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    heads: Sequence[str],
    task: Task,
    head: str,
) -> tuple[Tensors, list[str]]:
    """Weight and bias of the head in the data's order, or nothing if a new one is due; notes.

    heads: names of the classifiers whose outputs are averaged. Raises CheckpointError for labels
    that are not the data's.
    """
    label_names, other = task.label_names, _of_other_task(config, task)
    if other and head == "keep":
        raise CheckpointError(
            f"model.head: keep is not possible, the checkpoint's head is for {other}, the task is "
            f"{task.name}; use auto or new"
        )
    if head == "new" or other or f"{heads[0]}.weight" not in tensors:
        return {}, ["model.checkpoint: a new classifier is trained"]
    size = tensors[f"{heads[0]}.weight"].shape[:1].numel()
    if size != len(label_names):
        if head == "keep":
            raise CheckpointError(
                f"model.head: keep is not possible, the checkpoint has {size} labels and the data "
                f"{len(label_names)}; use auto or new"
            )
        return {}, [
            f"model.checkpoint: its classifier for {size} labels is replaced by a new one for "
            f"{len(label_names)}"
        ]
    wrong = [
        f"{name}.{kind}"
        for name in heads
        for kind, ndim in (("weight", 2), ("bias", 1))
        if (tensor := tensors.get(f"{name}.{kind}")) is None
        or (tensor.ndim, tensor.shape[:1]) != (ndim, (size,))
    ]
    if wrong:
        raise CheckpointError(
            f"model.checkpoint: its classifier is missing or no classifier for {size} labels in "
            f"{wrong[0]}; set model.head to new"
        )
    order = None if head == "keep" or size == 1 else label_order(config, label_names)
    weight = torch.stack([tensors[f"{name}.weight"].float() for name in heads], dim=2).flatten(1)
    bias = torch.stack([tensors[f"{name}.bias"].float() for name in heads]).mean(dim=0)
    weight = weight / len(heads)
    notes = []
    if order is not None:
        weight, bias = weight[order], bias[order]
    elif head == "auto" and size > 1:
        notes = ["model.checkpoint: its labels have no names; they are taken in the data's order"]
    return {"head.weight": weight, "head.bias": bias}, notes


def _of_other_task(config: Mapping[str, Any], task: Task) -> str:
    """What the class that config.json names is for, where that is not the task; empty if it is."""
    named = str((config.get("architectures") or [""])[0])
    ends = {"ForTokenClassification": "tokens", "ForSequenceClassification": "whole texts"}
    own = "tokens" if task.reads == "tokens" else "whole texts"
    return next((what for end, what in ends.items() if named.endswith(end) and what != own), "")


def label_order(config: Mapping[str, Any], label_names: Sequence[str]) -> list[int] | None:
    """Rows of the classifier in the data's order; None if the checkpoint's labels have no names.

    Names may differ in case, blanks, hyphens and underscores.
    """
    table = {int(key): str(name) for key, name in (config.get("id2label") or {}).items()}
    theirs = [table[key] for key in sorted(table)]
    if not theirs or all(name.lower().startswith("label_") for name in theirs):
        return None
    for spelled in (str, _folded):
        order = _positions(spelled, theirs, label_names)
        if order is not None:
            return order
    different = sorted({_folded(n) for n in theirs} ^ {_folded(n) for n in label_names})[:6]
    raise CheckpointError(
        "model.checkpoint: its labels are as many as the data's, but not the same (only on one "
        f"side: {', '.join(map(repr, different))}); set model.head to new, or to keep if only "
        "names differ"
    )


def _positions(
    spelled: Callable[[str], str], theirs: Sequence[str], ours: Sequence[str]
) -> list[int] | None:
    """Place of each of our names in theirs, None unless each has exactly one."""
    places = {spelled(name): place for place, name in enumerate(theirs)}
    wanted = [spelled(name) for name in ours]
    if len(places) != len(theirs) or set(wanted) != places.keys():
        return None
    return [places[name] for name in wanted]


def _folded(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()
