"""Checkpoints of RoBERTa, XLM-RoBERTa, CamemBERT and data2vec for texts."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from supernets.families.bert.hugging_face import BLOCKS, EMBEDDINGS, FIELDS, FIXED
from supernets.families.hugging_face import Field, HuggingFace, Tensors, Variant
from supernets.families.roberta.config import RobertaConfig

POSITIONS, TYPES = (f"embeddings.{kind}_embeddings.weight" for kind in ("position", "token_type"))
TOKENS = Field("max_position_embeddings", lambda rows: rows - 2, lambda tokens: tokens + 2)
"""Positions are counted from the one after padding's, which is 1."""
CLASSES = {
    "roberta": ("RobertaForSequenceClassification", "roberta"),
    "xlm-roberta": ("XLMRobertaForSequenceClassification", "roberta"),
    "camembert": ("CamembertForSequenceClassification", "roberta"),
    "data2vec-text": ("Data2VecTextForSequenceClassification", "data2vec_text"),
}


def prepare(theirs: Mapping[str, Tensor], own: RobertaConfig, wanted: RobertaConfig) -> Tensors:
    """The only token type, which every token has, as a part of the positions."""
    ready = dict(theirs)
    if own.token_types == 1 and {POSITIONS, TYPES} <= ready.keys():
        ready[POSITIONS] = ready[POSITIONS] + ready.pop(TYPES)
    return ready


HUGGING_FACE = HuggingFace(
    names={**EMBEDDINGS, **BLOCKS, "pooler": "classifier.dense"},
    fields={**FIELDS, "max_positions": TOKENS},
    variants=tuple(
        Variant(kind, name, ("classifier.out_proj",), {"kind": kind}, prefix)
        for kind, (name, prefix) in CLASSES.items()
    ),
    fixed={**FIXED, "pad_token_id": (1,)},
    optional=("pooler",),
    ignored=("lm_head.*", "pooler.*", "qa_outputs.*", "classifier.*"),
    prepare=prepare,
)
