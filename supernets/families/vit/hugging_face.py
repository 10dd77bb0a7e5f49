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
        Variant(
            "vit",
            "ViTForImageClassification",
            ("classifier",),
            {"prefix_tokens": 1, "head_tokens": 1},
        ),
        Variant(
            "deit",
            "DeiTForImageClassification",
            ("classifier",),
            {"prefix_tokens": 2, "head_tokens": 1},
        ),
        Variant(
            "deit",
            "DeiTForImageClassificationWithTeacher",
            ("cls_classifier", "distillation_classifier"),
            {"prefix_tokens": 2, "head_tokens": 2},
        ),
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
