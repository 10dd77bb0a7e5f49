"""A checkpoint's tensors under one spelling of their names."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import chain

import torch
from torch import Tensor

from supernets.families.hugging_face import CheckpointError, HuggingFace
from supernets.pretrained.checkpoint import Checkpoint

WRAPPERS = ("module.", "_orig_mod.", "model.", "base_model.", "backbone.", "auto_model.", "0.")
"""What DataParallel, torch.compile, trainers and sentence-transformers put before every name."""
LEGACY = (("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias"))
"""Spellings of TensorFlow's time, renamed in every model by transformers' "legacy" mapping."""
COUNTERS = ("position_ids", "token_type_ids", "num_batches_tracked")
FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


@dataclass(frozen=True)
class Given:
    """Tensors by transformers' names, each name as the file has it, and those of other heads.

    heads: tensors outside the network proper, where a prefix tells which those are.
    """

    tensors: Mapping[str, Tensor]
    spelling: Mapping[str, str]
    heads: Collection[str]

    def require_numbers(self, used: Collection[str]) -> None:
        """Raise CheckpointError for integers and for numbers that are not finite."""
        for name in sorted(set(used) & self.tensors.keys()):
            tensor, theirs = self.tensors[name], self.spelling[name]
            if name.endswith(COUNTERS):
                continue
            if tensor.dtype not in FLOATS:
                raise CheckpointError(
                    f"model.checkpoint: {theirs} is stored as {str(tensor.dtype)[6:]}; quantized "
                    "weights cannot be trained: give float32, float16 or bfloat16 ones"
                )
            wrong = int((~torch.isfinite(tensor.float())).sum())
            if wrong:
                raise CheckpointError(
                    f"model.checkpoint: {theirs} holds {wrong} values that are not finite (NaN or "
                    f"infinite) among {tensor.numel()}; give a checkpoint of an earlier step"
                )

    def unknown(self, known: HuggingFace, used: Collection[str], keeps_head: bool) -> list[str]:
        """Tensors that compute something and that our network has no place for, as spelled."""
        rest = self.tensors.keys() - set(used)
        ignored = [*known.ignored, *chain.from_iterable(known.left_out.values())]
        if not keeps_head:
            rest -= set(self.heads)
        return sorted(
            self.spelling[name]
            for name in rest
            if not name.endswith(COUNTERS) and not fits(name, ignored)
        )


def read_tensors(checkpoint: Checkpoint, known: HuggingFace) -> Given:
    """All tensors of a checkpoint. Raises CheckpointError if two have one name."""
    weights = checkpoint.weights()
    plain = {name: unwrapped(name) for name in weights}
    if known.bare is not None and known.bare.known(plain.values()):
        plain = {name: known.bare.renamed(stripped) for name, stripped in plain.items()}
    prefixes = tuple({variant.prefix for variant in known.variants})
    inside = {name for name, stripped in plain.items() if stripped.startswith(prefixes)}
    spelling: dict[str, str] = {}
    for name, stripped in plain.items():
        ours = known.spelled_anew(_legacy(unwrapped(stripped, prefixes)))
        if ours in spelling:
            raise CheckpointError(
                f"model.checkpoint: {spelling[ours]} and {name} are the same tensor by name; keep "
                "one of them"
            )
        spelling[ours] = name
    heads = {ours for ours, name in spelling.items() if inside and name not in inside}
    return Given({ours: weights[name] for ours, name in spelling.items()}, spelling, heads)


def fits(name: str, patterns: Iterable[str]) -> bool:
    """Whether a name fits any of the patterns."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def unwrapped(name: str, prefixes: tuple[str, ...] = ()) -> str:
    """A name without what wrappers put before it."""
    found = next((p for p in (*WRAPPERS, *prefixes) if name.startswith(p)), None)
    return name if found is None else unwrapped(name.removeprefix(found), prefixes)


def _legacy(name: str) -> str:
    for old, new in LEGACY:
        name = name.replace(old, new)
    return name
