"""Checkpoints of ViT and DeiT."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from supernets.families.hugging_face import (
    CheckpointError,
    Field,
    HuggingFace,
    Tensors,
    Variant,
    square,
)
from supernets.families.vit.config import VitConfig
from supernets.families.vit.positions import resize_patches

PATCHES, CLASS = "embeddings.patch_embeddings.projection.weight", "embeddings.cls_token"
DISTILLED, POSITIONS = "embeddings.distillation_token", "embeddings.position_embeddings"


def prepare(theirs: Mapping[str, Tensor], own: VitConfig, wanted: VitConfig) -> Tensors:
    """Patch convolution as a matrix, all learned tokens in one tensor, positions at our size."""
    ready = dict(theirs)
    if PATCHES in ready and ready[PATCHES].ndim == 4:
        ready[PATCHES] = ready[PATCHES].flatten(1)
    if DISTILLED in ready and CLASS in ready and ready[CLASS].shape == ready[DISTILLED].shape:
        ready[CLASS] = torch.cat([ready[CLASS], ready.pop(DISTILLED)], dim=1)
    if POSITIONS in ready:
        tokens = own.prefix_tokens + own.grid**2
        if ready[POSITIONS].ndim != 3 or ready[POSITIONS].shape[:2] != (1, tokens):
            raise CheckpointError(
                f"model.checkpoint: {POSITIONS} {tuple(ready[POSITIONS].shape)} is not for the "
                f"{tokens} tokens that image_size and patch_size of config.json make"
            )
        positions = ready[POSITIONS].float()
        ready[POSITIONS] = resize_patches(positions, own.prefix_tokens, wanted.grid)
    return ready


HUGGING_FACE = HuggingFace(
    names={
        "cls_token": CLASS,
        "pos_embed": POSITIONS,
        "patch_embed": PATCHES.removesuffix(".weight"),
        "blocks.{}.norm1": "encoder.layer.{}.layernorm_before",
        "blocks.{}.attention.query": "encoder.layer.{}.attention.attention.query",
        "blocks.{}.attention.key": "encoder.layer.{}.attention.attention.key",
        "blocks.{}.attention.value": "encoder.layer.{}.attention.attention.value",
        "blocks.{}.attention.out": "encoder.layer.{}.attention.output.dense",
        "blocks.{}.norm2": "encoder.layer.{}.layernorm_after",
        "blocks.{}.mlp.fc1": "encoder.layer.{}.intermediate.dense",
        "blocks.{}.mlp.fc2": "encoder.layer.{}.output.dense",
        "norm": "layernorm",
    },
    fields={
        "image_size": square("image_size"),
        "patch_size": square("patch_size"),
        "channels": Field("num_channels"),
        "embed_dim": Field("hidden_size"),
        "depth": Field("num_hidden_layers"),
        "num_heads": Field("num_attention_heads"),
        "hidden_dim": Field("intermediate_size"),
        "qkv_bias": Field("qkv_bias"),
        "layer_norm_eps": Field("layer_norm_eps"),
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
    # transformers 5 calls the parts of a block so in memory, and in files saved without converting.
    older=(
        (r"^layers\.", "encoder.layer."),
        (r"\.attention\.([qkv])_proj\.", r".attention.attention.\1_proj."),
        (r"\.q_proj\.", ".query."),
        (r"\.k_proj\.", ".key."),
        (r"\.v_proj\.", ".value."),
        (r"\.attention\.o_proj\.", ".attention.output.dense."),
        (r"\.mlp\.fc1\.", ".intermediate.dense."),
        (r"\.mlp\.fc2\.", ".output.dense."),
    ),
    ignored=("pooler.*", "embeddings.mask_token", "decoder.*", "*classifier.*"),
    prepare=prepare,
)
