"""Image towers of models trained on pictures and their captions, as transformers writes them.

D embed_dim, T tokens
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from supernets.families.hugging_face import Field, HuggingFace, Tensors, Variant
from supernets.families.image_checkpoints import IMAGE_FIELDS, patches_as_matrix, positions_resized
from supernets.families.sizes import ImageTransformerSizes

PATCHES, CLASS = "embeddings.patch_embedding.weight", "embeddings.class_embedding"
POSITIONS, BLOCK = "embeddings.position_embedding.weight", "encoder.layers.{}"
TOWER = "vision_model"
NAMES = {
    "cls_token": CLASS,
    "pos_embed": POSITIONS,
    "patch_embed": PATCHES.removesuffix(".weight"),
    "first_norm": "pre_layrnorm",  # sic
    "blocks.{}.norm1": f"{BLOCK}.layer_norm1",
    "blocks.{}.attention.query": f"{BLOCK}.self_attn.q_proj",
    "blocks.{}.attention.key": f"{BLOCK}.self_attn.k_proj",
    "blocks.{}.attention.value": f"{BLOCK}.self_attn.v_proj",
    "blocks.{}.attention.out": f"{BLOCK}.self_attn.out_proj",
    "blocks.{}.norm2": f"{BLOCK}.layer_norm2",
    "blocks.{}.mlp.fc1": f"{BLOCK}.mlp.fc1",
    "blocks.{}.mlp.fc2": f"{BLOCK}.mlp.fc2",
    "norm": "post_layernorm",
}
CAPTIONS = ("text_model.*", "text_projection.*", "visual_projection.*", "logit_*", "classifier.*")
"""Tensors that no classifier of images computes with."""


def prepare(
    theirs: Mapping[str, Tensor], own: ImageTransformerSizes, wanted: ImageTransformerSizes
) -> Tensors:
    """Patch convolution as a matrix, tokens and positions with a batch axis, at our resolution.

    What comes after the blocks to compare with captions is left out.
    """
    unread = ("head.", *(("post_layernorm.",) if own.last_norm is None else ()))
    ready = {name: tensor for name, tensor in theirs.items() if not name.startswith(unread)}
    patches_as_matrix(ready, PATCHES)
    if CLASS in ready and ready[CLASS].ndim == 1:
        ready[CLASS] = ready[CLASS][None, None]
    if POSITIONS in ready:
        ready[POSITIONS] = ready[POSITIONS][None]
    positions_resized(ready, own, wanted, own.prefix, POSITIONS)
    return ready


def tower(name: str, classes: str) -> HuggingFace:
    """How `name` writes its checkpoints; classes: what its names of classes begin with."""
    whole = Variant(
        name,
        f"{classes}ForImageClassification",
        ("classifier",),
        base=TOWER,
        section="vision_config",
    )
    alone = Variant(f"{name}_vision_model", f"{classes}VisionModel", ("classifier",), base=TOWER)
    return HuggingFace(
        names=NAMES,
        fields={
            **IMAGE_FIELDS,
            "hidden_dim": Field("intermediate_size"),
            "hidden_act": Field("hidden_act"),
        },
        variants=(whole, alone),
        fixed={},
        ignored=CAPTIONS,
        prepare=prepare,
    )
