"""Checkpoints of DINOv2, without and with registers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import Tensor

from supernets.families.dinov2.config import Dinov2Config
from supernets.families.hugging_face import Field, HuggingFace, Tensors, Variant
from supernets.families.image_checkpoints import (
    CLASS,
    IMAGE_FIELDS,
    PATCHES,
    POSITIONS,
    SEPARATE,
    alternating,
    attention_names,
    fold_scales,
    patches_as_matrix,
    positions_resized,
)
from supernets.families.sizes import Sizes

REGISTERS, BLOCK = "embeddings.register_tokens", "encoder.layer.{}"
LAYER = r"(encoder\.layer\.\d+)"


def prepare(theirs: Mapping[str, Tensor], own: Dinov2Config, wanted: Dinov2Config) -> Tensors:
    """LayerScale in the layers before it, registers behind the class token, which have no position.

    What SwiGLU reads is one tensor in files and two in memory; here it is two.
    """
    ready = dict(theirs)
    patches_as_matrix(ready)
    ready.pop("embeddings.mask_token", None)  # of pretraining
    positions_resized(ready, own, wanted, 1)
    if REGISTERS in ready and CLASS in ready and POSITIONS in ready:
        registers, positions = ready.pop(REGISTERS), ready[POSITIONS]
        ready[CLASS] = torch.cat([ready[CLASS], registers], dim=1)
        first, patches = positions[:, :1], positions[:, 1:]
        ready[POSITIONS] = torch.cat([first, torch.zeros_like(registers), patches], dim=1)
    for name in [name for name in ready if ".mlp.weights_in." in name]:
        halves = ready.pop(name).chunk(2)
        for ours, half in zip(("gate", "fc1"), halves, strict=True):
            ready[re.sub("weights_in", ours, name)] = half
    fold_scales(ready, LAYER + r"\.layer_scale1\.lambda1", r"\1.attention.output.dense")
    fold_scales(ready, LAYER + r"\.layer_scale2\.lambda1", r"\1.mlp.fc2")
    alternating(ready)
    return ready


def _neurons(width: int, ratio: float, gate: bool) -> int:
    """Neurons of an MLP; a SwiGLU has two thirds, rounded up to a multiple of 8."""
    neurons = int(width * ratio)
    return (int(neurons * 2 / 3) + 7) // 8 * 8 if gate else neurons


@dataclass(frozen=True)
class _Neurons(Field):
    """Neurons follow from the width; the least whole ratio with as many is written."""

    def value(self, config: Mapping[str, Any]) -> Any:
        try:
            ratio, gate = config[self.theirs], bool(config["use_swiglu_ffn"])
            return _neurons(config["hidden_size"], ratio, gate)
        except (TypeError, ValueError, OverflowError):
            return None

    def entry(self, sizes: Sizes, ours: str) -> dict[str, Any]:
        assert isinstance(sizes, Dinov2Config)
        width, wanted = sizes.embed_dim, getattr(sizes, ours)
        ratios = (ratio for ratio in count(1) if _neurons(width, ratio, sizes.gate) >= wanted)
        return {self.theirs: next(ratios)}


@dataclass(frozen=True)
class _Registers(Field):
    """A field that models without registers do not have."""

    def entry(self, sizes: Sizes, ours: str) -> dict[str, Any]:
        return {self.theirs: registers} if (registers := getattr(sizes, ours)) else {}


HUGGING_FACE = HuggingFace(
    names={
        "cls_token": CLASS,
        "pos_embed": POSITIONS,
        "patch_embed": PATCHES.removesuffix(".weight"),
        "blocks.{}.norm1": f"{BLOCK}.norm1",
        **attention_names(BLOCK),
        "blocks.{}.norm2": f"{BLOCK}.norm2",
        "blocks.{}.mlp.fc1": f"{BLOCK}.mlp.fc1",
        "blocks.{}.mlp.gate": f"{BLOCK}.mlp.gate",
        "blocks.{}.mlp.fc2": f"{BLOCK}.mlp.fc2",
        "norm": "layernorm",
    },
    fields={
        **IMAGE_FIELDS,
        "hidden_dim": _Neurons("mlp_ratio"),
        "gate": Field("use_swiglu_ffn"),
        "qkv_bias": Field("qkv_bias"),
        "registers": _Registers("num_register_tokens", lambda given: given or 0),
    },
    variants=(
        Variant("dinov2", "Dinov2ForImageClassification", ("classifier",), {"registers": 0}),
        Variant(
            "dinov2_with_registers", "Dinov2WithRegistersForImageClassification", ("classifier",)
        ),
    ),
    fixed={"hidden_act": ("gelu", "gelu_python")},
    older=(
        *SEPARATE[1:],
        (r"\.mlp\.up_proj\.", ".mlp.fc1."),
        (r"\.mlp\.gate_proj\.", ".mlp.gate."),
        (r"\.mlp\.(down_proj|weights_out)\.", ".mlp.fc2."),
    ),
    ignored=("classifier.*",),
    prepare=prepare,
)
