"""Checkpoints of ViT and DeiT."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from supernets.families.hugging_face import Field, HuggingFace, Tensors, Variant
from supernets.families.image_checkpoints import (
    CLASS,
    IMAGE_FIELDS,
    PATCHES,
    POSITIONS,
    SEPARATE,
    attention_names,
    patches_as_matrix,
    positions_resized,
)
from supernets.families.vit.config import VitConfig

DISTILLED = "embeddings.distillation_token"
BLOCK = "encoder.layer.{}"


def prepare(theirs: Mapping[str, Tensor], own: VitConfig, wanted: VitConfig) -> Tensors:
    """Patch convolution as a matrix, all learned tokens in one tensor, positions at our size."""
    ready = dict(theirs)
    patches_as_matrix(ready)
    if DISTILLED in ready and CLASS in ready and ready[CLASS].shape == ready[DISTILLED].shape:
        ready[CLASS] = torch.cat([ready[CLASS], ready.pop(DISTILLED)], dim=1)
    positions_resized(ready, own, wanted, own.prefix)
    return ready


def _variant(
    model_type: str,
    architecture: str,
    prefix_tokens: int,
    heads: tuple[str, ...] = ("classifier",),
    base: str | None = None,
    kind: str | None = None,
) -> Variant:
    """kind: what it is exported as, if not as itself."""
    sizes = {"prefix_tokens": prefix_tokens, "head_tokens": len(heads), "kind": kind or model_type}
    return Variant(model_type, architecture, heads, sizes, base)


HUGGING_FACE = HuggingFace(
    names={
        "cls_token": CLASS,
        "pos_embed": POSITIONS,
        "patch_embed": PATCHES.removesuffix(".weight"),
        "blocks.{}.norm1": f"{BLOCK}.layernorm_before",
        **attention_names(BLOCK),
        "blocks.{}.norm2": f"{BLOCK}.layernorm_after",
        "blocks.{}.mlp.fc1": f"{BLOCK}.intermediate.dense",
        "blocks.{}.mlp.fc2": f"{BLOCK}.output.dense",
        "norm": "layernorm",
    },
    fields={
        **IMAGE_FIELDS,
        "hidden_dim": Field("intermediate_size"),
        "qkv_bias": Field("qkv_bias"),
    },
    variants=(
        _variant("vit", "ViTForImageClassification", 1),
        _variant("deit", "DeiTForImageClassification", 2),
        _variant(
            "deit",
            "DeiTForImageClassificationWithTeacher",
            2,
            ("cls_classifier", "distillation_classifier"),
        ),
        _variant("vit_msn", "ViTMSNForImageClassification", 1, base="vit"),
        _variant("ijepa", "IJepaForImageClassification", 0),
        _variant("vit_mae", "ViTMAEModel", 1, base="vit", kind="vit"),
    ),
    fixed={"hidden_act": ("gelu", "gelu_python")},
    older=(
        *SEPARATE,
        (r"\.mlp\.fc1\.", ".intermediate.dense."),
        (r"\.mlp\.fc2\.", ".output.dense."),
    ),
    ignored=("pooler.*", "embeddings.mask_token", "decoder.*", "*classifier.*"),
    prepare=prepare,
)
