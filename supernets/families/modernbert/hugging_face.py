"""Checkpoints of ModernBERT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from supernets.families.hugging_face import CheckpointError, Field, HuggingFace, Tensors, Variant
from supernets.families.modernbert.config import ModernBertConfig
from supernets.families.sizes import Sizes

GLOBAL, LOCAL = "full_attention", "sliding_attention"
SPLIT = {"attn.Wqkv": ("attn.query", "attn.key", "attn.value"), "mlp.Wi": ("mlp.gate", "mlp.fc1")}


class Pattern(Field):
    """Every how manieth block is global, as a list of all blocks and as older versions wrote it."""

    def value(self, config: Mapping[str, Any]) -> Any:
        """The number of which the list is made."""
        kinds = list(config.get(self.theirs) or ())
        every = next((n for n in range(1, len(kinds)) if kinds[n] == GLOBAL), len(kinds) or 1)
        if kinds != _kinds(every, len(kinds)):
            raise CheckpointError(
                f"model.checkpoint: config.json has {self.theirs} {kinds!r}; only a "
                f"{GLOBAL!r} block first and then after equally many {LOCAL!r} ones is supported"
            )
        return every

    def entry(self, sizes: Sizes, ours: str) -> dict[str, Any]:
        """Both spellings."""
        assert isinstance(sizes, ModernBertConfig)
        every = sizes.global_every
        return {self.theirs: _kinds(every, sizes.depth), "global_attn_every_n_layers": every}


def _kinds(every: int, depth: int) -> list[str]:
    return [GLOBAL if index % every == 0 else LOCAL for index in range(depth)]


class Theta(Field):
    """Base of the angles in one kind of blocks; `theirs` is how older versions wrote it."""

    def value(self, config: Mapping[str, Any]) -> Any:
        """The base. Raises CheckpointError for angles that are scaled."""
        angles = (config.get("rope_parameters") or {}).get(self._kind) or {}
        if angles.get("rope_type", "default") != "default":
            raise CheckpointError(
                f"model.checkpoint: config.json has rope_type {angles['rope_type']!r}; only "
                "'default' is supported"
            )
        return angles.get("rope_theta")

    @property
    def _kind(self) -> str:
        return GLOBAL if self.theirs.startswith("global") else LOCAL


def prepare(
    theirs: Mapping[str, Tensor], own: ModernBertConfig, wanted: ModernBertConfig
) -> Tensors:
    """The layers that are stored as one matrix."""
    ready = dict(theirs)
    for name in theirs:
        for joined, parts in SPLIT.items():
            if f".{joined}." in name:
                rows = ready.pop(name).chunk(len(parts))
                found = zip(parts, rows, strict=True)
                ready |= {name.replace(joined, part): own_rows for part, own_rows in found}
    return ready


HUGGING_FACE = HuggingFace(
    names={
        "embeddings.word": "embeddings.tok_embeddings",
        "embeddings.norm": "embeddings.norm",
        "blocks.{}.attention_norm": "layers.{}.attn_norm",
        "blocks.{}.attention.query": "layers.{}.attn.query",
        "blocks.{}.attention.key": "layers.{}.attn.key",
        "blocks.{}.attention.value": "layers.{}.attn.value",
        "blocks.{}.attention.out": "layers.{}.attn.Wo",
        "blocks.{}.mlp_norm": "layers.{}.mlp_norm",
        "blocks.{}.mlp.fc1": "layers.{}.mlp.fc1",
        "blocks.{}.mlp.gate": "layers.{}.mlp.gate",
        "blocks.{}.mlp.fc2": "layers.{}.mlp.Wo",
        "norm": "final_norm",
        "pooler": "head.dense",
        "pooler_norm": "head.norm",
    },
    fields={
        "vocab_size": Field("vocab_size"),
        "max_positions": Field("max_position_embeddings"),
        "embed_dim": Field("hidden_size"),
        "depth": Field("num_hidden_layers"),
        "num_heads": Field("num_attention_heads"),
        "hidden_dim": Field("intermediate_size"),
        "layer_norm_eps": Field("norm_eps"),
        "global_every": Pattern("layer_types"),
        "local_tokens": Field("local_attention"),
        "global_theta": Theta("global_rope_theta"),
        "local_theta": Theta("local_rope_theta"),
        "attention_bias": Field("attention_bias"),
        "mlp_bias": Field("mlp_bias"),
        "norm_bias": Field("norm_bias"),
        "pooler_bias": Field("classifier_bias"),
        "pad_token": Field("pad_token_id"),
        "classifier_pooling": Field(
            "classifier_pooling",
            lambda pooling: {"cls": "first"}.get(pooling, pooling),
            lambda pooling: {"first": "cls"}.get(pooling, pooling),
        ),
    },
    variants=(
        Variant("modernbert", "ModernBertForSequenceClassification", ("classifier",), base="model"),
    ),
    fixed={"hidden_activation": ("gelu",), "classifier_activation": ("gelu",)},
    optional=("pooler", "pooler_norm"),
    ignored=("decoder.*", "qa_outputs.*", "classifier.*"),
    prepare=prepare,
)
