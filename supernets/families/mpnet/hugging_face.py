"""Checkpoints of MPNet."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from supernets.families.bert.hugging_face import BLOCKS, EMBEDDINGS, FIELDS
from supernets.families.hugging_face import HuggingFace, Tensors, Variant
from supernets.families.mpnet.config import MPNetConfig
from supernets.families.roberta.hugging_face import TOKENS

SHARED, OWN = "encoder.relative_attention_bias.weight", "encoder.layer.{}.attention.attn.bias"


def prepare(theirs: Mapping[str, Tensor], own: MPNetConfig, wanted: MPNetConfig) -> Tensors:
    """A table of relative places for every block: each puts its heads in an order of its own."""
    ready = dict(theirs)
    if SHARED in ready:
        table = ready.pop(SHARED)
        ready |= {OWN.format(index): table for index in range(own.depth)}
    return ready


HUGGING_FACE = HuggingFace(
    names={
        **EMBEDDINGS,
        **BLOCKS,
        "blocks.{}.attention.query": "encoder.layer.{}.attention.attn.q",
        "blocks.{}.attention.key": "encoder.layer.{}.attention.attn.k",
        "blocks.{}.attention.value": "encoder.layer.{}.attention.attn.v",
        "blocks.{}.attention.out": "encoder.layer.{}.attention.attn.o",
        "blocks.{}.attention.bias.table": OWN,
        "blocks.{}.attention_norm": "encoder.layer.{}.attention.LayerNorm",
        "pooler": "classifier.dense",
    },
    fields={**{k: v for k, v in FIELDS.items() if k != "token_types"}, "max_positions": TOKENS},
    variants=(Variant("mpnet", "MPNetForSequenceClassification", ("classifier.out_proj",)),),
    fixed={
        "hidden_act": ("gelu", "gelu_python"),
        "pad_token_id": (1,),
        "relative_attention_num_buckets": (32,),
    },
    optional=("pooler",),
    ignored=("lm_head.*", "pooler.*", "qa_outputs.*", "classifier.*"),
    prepare=prepare,
)
