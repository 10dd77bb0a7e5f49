"""Checkpoints of BEiT-3 in the published names and fields.

Those of torchscale, https://github.com/microsoft/torchscale, in which layers of images end with A
and those of texts with B. transformers has no BEiT-3.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Container, Iterable, Mapping
from typing import Any, Literal

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
POSITIONS, TEXT_POSITIONS = (f"encoder.embed_positions.{way}.weight" for way in "AB")
UNREAD = (
    f"{BLOCK}.self_attn.[qoi]*.B.*",
    f"{BLOCK}.final_layer_norm.B.*",
    f"{BLOCK}.ffn.B.*",
)
"""Of the half for texts of the last layer: queries and what follows them."""
_HEADS = {
    f"head.{theirs}.{kind}": f"head.{ours}.{kind}"
    for theirs, ours in (("dense1", 0), ("norm2", 1))
    for kind in ("weight", "bias")
}
"""The two heads of texts have the same layers under different names."""
TEXT_EMBEDDING = "text_embed.weight"
PREFIX, UNUSED_ROWS = "beit3.", 2
"""What the encoder's names begin with; rows of the table of positions before the first token's."""
HEAD_WIDTH = 64
"""Of base and large, the published sizes; weights alone do not say it."""


def prepare(theirs: Mapping[str, Tensor], own: Beit3Config, wanted: Beit3Config) -> Tensors:
    """Patch convolution as a matrix, positions without unused rows, at our resolution and length.

    The mask token is of pretraining, another question's head of no use. Where a text is asked about
    one image, nothing reads what the last layer makes of the text.
    """
    ready = {_HEADS.get(name, name): tensor for name, tensor in theirs.items()}
    if own.asks != wanted.asks:
        ready = {name: tensor for name, tensor in ready.items() if not name.startswith("head.")}
    ready.pop("vision_embed.mask_token", None)
    patches_as_matrix(ready, PATCHES)
    if POSITIONS in ready:
        ready[POSITIONS] = ready[POSITIONS][UNUSED_ROWS:].unsqueeze(0)
    positions_resized(ready, own, wanted, 1, POSITIONS)
    if TEXT_POSITIONS in ready:
        ready[TEXT_POSITIONS] = ready[TEXT_POSITIONS][UNUSED_ROWS:]
    if wanted.asks == "question":
        for pattern in UNREAD:
            unread = fnmatch.filter(ready, pattern.format(wanted.depth - 1))
            ready = {name: tensor for name, tensor in ready.items() if name not in unread}
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
    texts: dict[str, int] = {"vocab_size": 0}
    if PREFIX + TEXT_EMBEDDING in weights:
        rows = len(weights[PREFIX + TEXT_POSITIONS])
        texts = {
            "vocab_size": len(weights[PREFIX + TEXT_EMBEDDING]),
            "max_positions": rows - UNUSED_ROWS,
        }
    return Beit3Config(
        **texts,
        asks=_asked(weights),
        image_size=grid * patch_size,
        channels=channels,
        patch_size=patch_size,
        embed_dim=width,
        depth=len({name.split(".")[3] for name in weights if name.startswith(blocks)}),
        num_heads=width // HEAD_WIDTH,
        hidden_dim=len(weights[f"{blocks}0.ffn.A.fc1.weight"]),
    )


def _asked(names: Container[str]) -> Literal["image", "question", "pair"]:
    """What the classifier of these weights is for."""
    if "head.dense2.weight" in names:
        return "pair"
    return "question" if "head.3.weight" in names else "image"


def _halves(ours: str, theirs: str) -> dict[str, str]:
    """Names of a layer of both halves, and with images alone."""
    block, way = f"{BLOCK}.{theirs}", "blocks.{}"
    return {
        f"{way}.{ours}": block.format("{}", way="A"),
        f"{way}.image.{ours}": block.format("{}", way="A"),
        f"{way}.text.{ours}": block.format("{}", way="B"),
    }


HUGGING_FACE = HuggingFace(
    names={
        "cls_token": "vision_embed.cls_token",
        "pos_embed": POSITIONS,
        "patch_embed": PATCHES.removesuffix(".weight"),
        "word": TEXT_EMBEDDING.removesuffix(".weight"),
        "place": TEXT_POSITIONS.removesuffix(".weight"),
        **_halves("norm1", "self_attn_layer_norm.{way}"),
        **_halves("attention.query", "self_attn.q_proj.{way}"),
        **_halves("attention.key", "self_attn.k_proj.{way}"),
        **_halves("attention.value", "self_attn.v_proj.{way}"),
        **_halves("attention.norm", "self_attn.inner_attn_ln.{way}"),
        **_halves("attention.out", "self_attn.out_proj.{way}"),
        **_halves("norm2", "final_layer_norm.{way}"),
        **_halves("mlp.fc1", "ffn.{way}.fc1"),
        **_halves("mlp.norm", "ffn.{way}.ffn_layernorm"),
        **_halves("mlp.fc2", "ffn.{way}.fc2"),
        "reader.norm": "pooler.norm",
        "reader.dense": "pooler.dense",
        "reader.joint": "head.norm1",
        "reader.image": "encoder.layer_norm.A",
        "reader.text": "encoder.layer_norm.B",
        "hidden": "head.0",
        "hidden_norm": "head.1",
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
        "vocab_size": Field("vocab_size", lambda rows: max(0, rows)),
        "max_positions": Field(
            "max_source_positions", lambda rows: rows - UNUSED_ROWS, lambda n: n + UNUSED_ROWS
        ),
    },
    variants=(
        Variant("beit3", "BEiT3ForImageClassification", ("head",), {"asks": "image"}),
        Variant("beit3", "BEiT3ForVisualQuestionAnswering", ("head.3",), {"asks": "question"}),
        Variant("beit3", "BEiT3ForVisualReasoning", ("head.dense2",), {"asks": "pair"}),
    ),
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
    optional=(
        "norm",
        *("reader.norm", "reader.dense", "reader.joint", "reader.image", "reader.text"),
        *("hidden", "hidden_norm"),
    ),
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
        "vocab_size": 64010,
        "max_source_positions": 1024,
    },
    prepare=prepare,
    bare=Bare(_is_published, _sizes, str),
)
