"""Checkpoints of BEiT, and of data2vec for images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from supernets.families.beit.config import BeitConfig
from supernets.families.hugging_face import CheckpointError, Field, HuggingFace, Tensors, Variant
from supernets.families.image_checkpoints import (
    CLASS,
    IMAGE_FIELDS,
    PATCHES,
    POSITIONS,
    SEPARATE,
    attention_names,
    fold_scales,
    patches_as_matrix,
    positions_resized,
)

BLOCK, LAYER = "encoder.layer.{}", r"(encoder\.layer\.\d+)"
TABLE = "relative_position_bias.relative_position_bias_table"
OF_BLOCK, SHARED = f"{BLOCK}.attention.attention.{TABLE}", f"encoder.{TABLE}"


def prepare(theirs: Mapping[str, Tensor], own: BeitConfig, wanted: BeitConfig) -> Tensors:
    """LayerScale in the layers before it, a table of relative places per block at our resolution.

    A table that all blocks share becomes a copy in each, so that heads can be put in any order.
    """
    ready = dict(theirs)
    patches_as_matrix(ready)
    ready.pop("embeddings.mask_token", None)  # of pretraining
    positions_resized(ready, own, wanted, 1)
    if not own.mean_pooling:
        for kind in ("weight", "bias"):
            if f"layernorm.{kind}" in ready:
                ready[f"pooler.layernorm.{kind}"] = ready.pop(f"layernorm.{kind}")
    fold_scales(ready, LAYER + r"\.lambda_1", r"\1.attention.output.dense")
    fold_scales(ready, LAYER + r"\.lambda_2", r"\1.output.dense")
    shared = ready.pop(SHARED, None)
    for name in [OF_BLOCK.format(index) for index in range(own.depth)]:
        tables = [table for table in (ready.get(name), shared) if table is not None]
        if tables:
            ready[name] = _resized(name, sum(t.float() for t in tables), own.grid, wanted.grid)
    return ready


def _resized(name: str, table_RN: Any, old: int, new: int) -> Tensor:
    """Interpolate the differences between places; the rows of the class token stay."""
    across = 2 * old - 1
    if table_RN.ndim != 2 or len(table_RN) != across**2 + 3:
        raise CheckpointError(
            f"model.checkpoint: {name} {tuple(table_RN.shape)} is not for the {across**2 + 3} "
            "relative places that image_size and patch_size of config.json make"
        )
    if new == old:
        return torch.as_tensor(table_RN)
    places, special = table_RN[:-3], table_RN[-3:]
    square = places.T.reshape(1, -1, across, across)
    resized = F.interpolate(square, size=(2 * new - 1, 2 * new - 1), mode="bilinear")
    return torch.cat([resized[0].flatten(1).T, special])


@dataclass(frozen=True)
class _Relative(Field):
    """True for a table per block and for one of all blocks."""

    def value(self, config: Mapping[str, Any]) -> Any:
        return bool(config.get(self.theirs) or config.get("use_shared_relative_position_bias"))


HUGGING_FACE = HuggingFace(
    names={
        "cls_token": CLASS,
        "pos_embed": POSITIONS,
        "patch_embed": PATCHES.removesuffix(".weight"),
        "blocks.{}.norm1": f"{BLOCK}.layernorm_before",
        **attention_names(BLOCK),
        "blocks.{}.attention.bias.table": OF_BLOCK,
        "blocks.{}.norm2": f"{BLOCK}.layernorm_after",
        "blocks.{}.mlp.fc1": f"{BLOCK}.intermediate.dense",
        "blocks.{}.mlp.fc2": f"{BLOCK}.output.dense",
        "norm": "pooler.layernorm",
    },
    fields={
        **IMAGE_FIELDS,
        "hidden_dim": Field("intermediate_size"),
        "positions": Field("use_absolute_position_embeddings"),
        "relative": _Relative("use_relative_position_bias"),
        "mean_pooling": Field("use_mean_pooling"),
    },
    variants=(
        Variant("beit", "BeitForImageClassification", ("classifier",), {"kind": "beit"}),
        Variant(
            "data2vec-vision",
            "Data2VecVisionForImageClassification",
            ("classifier",),
            {"kind": "data2vec-vision"},
            base="data2vec_vision",
        ),
    ),
    fixed={"hidden_act": ("gelu", "gelu_python")},
    older=(
        *SEPARATE,
        (r"\.mlp\.fc1\.", ".intermediate.dense."),
        (r"\.mlp\.fc2\.", ".output.dense."),
        (r"^shared_position_bias\.", "encoder.relative_position_bias."),
        (LAYER + r"\.relative_position_bias\.", r"\1.attention.attention.relative_position_bias."),
    ),
    optional=("norm",),
    ignored=("*relative_position_index", "lm_head.*", "layernorm.*", "classifier.*"),
    prepare=prepare,
)
