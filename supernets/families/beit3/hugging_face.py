"""Checkpoints of BEiT-3 in the published names and fields.

Those of torchscale, https://github.com/microsoft/torchscale, in which layers of images end with A
and those of texts with B. transformers has no BEiT-3.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from supernets.families.beit3.config import Beit3Config
from supernets.families.hugging_face import (
    Bare,
    CheckpointError,
    Field,
    HuggingFace,
    Tensors,
    Variant,
    square,
)
from supernets.families.image_checkpoints import patches_as_matrix, positions_resized

BLOCK, PATCHES = "encoder.layers.{}", "vision_embed.proj.weight"
POSITIONS = "encoder.embed_positions.A.weight"
PREFIX, UNUSED_ROWS = "beit3.", 2
"""What the encoder's names begin with; rows of the table of positions before the first token's."""
HEAD_WIDTH = 64
"""Of base and large, the published sizes; weights alone do not say it."""


def prepare(theirs: Mapping[str, Tensor], own: Beit3Config, wanted: Beit3Config) -> Tensors:
    """Patch convolution as a matrix, positions `(1, T, D)` without unused rows, at our resolution.

    The mask token is of pretraining.
    """
    ready = dict(theirs)
    ready.pop("vision_embed.mask_token", None)
    patches_as_matrix(ready, PATCHES)
    if POSITIONS in ready:
        ready[POSITIONS] = ready[POSITIONS][UNUSED_ROWS:].unsqueeze(0)
    positions_resized(ready, own, wanted, 1, POSITIONS)
    return ready


def _is_published(names: Iterable[str]) -> bool:
    return any(name.startswith(f"{PREFIX}encoder.layers.0.") for name in names)


def _sizes(weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> Beit3Config:
    """Read the sizes off the weights."""
    blocks = f"{PREFIX}encoder.layers."
    patch, positions = weights[PREFIX + PATCHES], weights[PREFIX + POSITIONS]
    width, channels, patch_size, _ = patch.shape
    if width % HEAD_WIDTH:
        raise CheckpointError(
            f"model.checkpoint: a BEiT-3 {width} wide is neither base nor large; say in a "
            "config.json how many heads it has (model_type beit3, encoder_attention_heads)"
        )
    grid = round((len(positions) - UNUSED_ROWS - 1) ** 0.5)
    return Beit3Config(
        image_size=grid * patch_size,
        channels=channels,
        patch_size=patch_size,
        embed_dim=width,
        depth=len({name.split(".")[3] for name in weights if name.startswith(blocks)}),
        num_heads=width // HEAD_WIDTH,
        hidden_dim=len(weights[f"{blocks}0.ffn.A.fc1.weight"]),
    )


HUGGING_FACE = HuggingFace(
    names={
        "cls_token": "vision_embed.cls_token",
        "pos_embed": POSITIONS,
        "patch_embed": PATCHES.removesuffix(".weight"),
        "blocks.{}.norm1": f"{BLOCK}.self_attn_layer_norm.A",
        "blocks.{}.attention.query": f"{BLOCK}.self_attn.q_proj.A",
        "blocks.{}.attention.key": f"{BLOCK}.self_attn.k_proj.A",
        "blocks.{}.attention.value": f"{BLOCK}.self_attn.v_proj.A",
        "blocks.{}.attention.norm": f"{BLOCK}.self_attn.inner_attn_ln.A",
        "blocks.{}.attention.out": f"{BLOCK}.self_attn.out_proj.A",
        "blocks.{}.norm2": f"{BLOCK}.final_layer_norm.A",
        "blocks.{}.mlp.fc1": f"{BLOCK}.ffn.A.fc1",
        "blocks.{}.mlp.norm": f"{BLOCK}.ffn.A.ffn_layernorm",
        "blocks.{}.mlp.fc2": f"{BLOCK}.ffn.A.fc2",
        "norm": "fc_norm",
    },
    fields={
        "image_size": square("img_size"),
        "patch_size": square("patch_size"),
        "channels": Field("in_chans"),
        "embed_dim": Field("encoder_embed_dim"),
        "depth": Field("encoder_layers"),
        "num_heads": Field("encoder_attention_heads"),
        "hidden_dim": Field("encoder_ffn_embed_dim"),
        "layer_norm_eps": Field("layernorm_eps"),
    },
    variants=(Variant("beit3", "BEiT3ForImageClassification", ("head",)),),
    fixed={
        "activation_fn": ("gelu",),
        "multiway": (True,),
        "subln": (True,),
        "encoder_normalize_before": (True,),
        "deepnorm": (False,),
        "no_scale_embedding": (True,),
        "layernorm_embedding": (False,),
        "moe_freq": (0,),
        "rel_pos_buckets": (0,),
        "xpos_rel_pos": (False,),
    },
    optional=("norm",),
    ignored=("encoder.layer_norm.*", "mlm_head.*", "mim_head.*", "pooler.*"),
    left_out={"the half that reads texts": ("text_embed.*", "*.B.*")},
    defaults={
        "img_size": 224,
        "patch_size": 16,
        "in_chans": 3,
        "encoder_embed_dim": 768,
        "encoder_layers": 12,
        "encoder_attention_heads": 12,
        "encoder_ffn_embed_dim": 3072,
        "layernorm_eps": 1e-5,
    },
    prepare=prepare,
    bare=Bare(_is_published, _sizes, str),
)
