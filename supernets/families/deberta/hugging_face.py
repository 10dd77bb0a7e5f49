"""Checkpoints of DeBERTa v2 and v3, both `deberta-v2` in transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from supernets.families.bert.hugging_face import BLOCKS, EMBEDDINGS, FIELDS
from supernets.families.deberta.config import DebertaConfig
from supernets.families.hugging_face import Field, HuggingFace, Tensors, Variant

OWN = "encoder.layer.{}.attention.self."
TERMS = {"c2p": "key", "p2c": "query"}


class Distance(Field):
    """The farthest distance, which is the number of positions if none is named."""

    def value(self, config: Mapping[str, Any]) -> Any:
        """The named one, else that of positions."""
        named = config.get(self.theirs)
        return named if named and named > 0 else config.get("max_position_embeddings")


def prepare(theirs: Mapping[str, Tensor], own: DebertaConfig, wanted: DebertaConfig) -> Tensors:
    """Projections of relative places, where a block shares those of its contents."""
    ready = dict(theirs)
    for index in range(own.depth if own.shared_projections else 0):
        for term in own.terms:
            for kind in ("weight", "bias"):
                shared = f"{OWN.format(index)}{TERMS[term]}_proj.{kind}"
                if shared in ready:
                    ready[f"{OWN.format(index)}pos_{TERMS[term]}_proj.{kind}"] = ready[shared]
    return ready


HUGGING_FACE = HuggingFace(
    names={
        **EMBEDDINGS,
        **BLOCKS,
        **{
            f"blocks.{{}}.attention.{ours}": f"{OWN}{ours}_proj"
            for ours in ("query", "key", "value")
        },
        **{
            f"blocks.{{}}.attention.disentangled.{ours}": f"{OWN}pos_{ours}_proj"
            for ours in TERMS.values()
        },
        "places.table": "encoder.rel_embeddings.weight",
        "places.norm": "encoder.LayerNorm",
        "pooler": "pooler.dense",
    },
    fields={
        **FIELDS,
        "buckets": Field("position_buckets", lambda n: max(n or 0, 0), lambda n: n or -1),
        "max_distance": Distance("max_relative_positions"),
        "terms": Field("pos_att_type", lambda terms: tuple(terms or ()), list),
        "places_norm": Field(
            "norm_rel_ebd",
            lambda kinds: "layer_norm" in (kinds or "").lower().split("|"),
            lambda has: "layer_norm" if has else "none",
        ),
        "shared_projections": Field("share_att_key", bool),
        "absolute": Field("position_biased_input"),
    },
    variants=(
        Variant(
            "deberta-v2", "DebertaV2ForSequenceClassification", ("classifier",), base="deberta"
        ),
    ),
    fixed={
        "relative_attention": (True,),
        "hidden_act": ("gelu", "gelu_python"),
        "pooler_hidden_act": ("gelu",),
        "conv_kernel_size": (0, None),
    },
    optional=("pooler",),
    ignored=(
        "lm_predictions.*",
        "mask_predictions.*",
        "cls.*",
        "qa_outputs.*",
        "classifier.*",
    ),
    prepare=prepare,
)
