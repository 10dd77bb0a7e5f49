"""Checkpoints of ELECTRA, discriminators and generators."""

from __future__ import annotations

from supernets.families.bert.hugging_face import BLOCKS, EMBEDDINGS, FIELDS, FIXED
from supernets.families.hugging_face import Field, HuggingFace, Variant

HUGGING_FACE = HuggingFace(
    names={
        **EMBEDDINGS,
        "embeddings.projection": "embeddings_project",
        **BLOCKS,
        "pooler": "classifier.dense",
    },
    fields={**FIELDS, "embedding_dim": Field("embedding_size")},
    variants=(Variant("electra", "ElectraForSequenceClassification", ("classifier.out_proj",)),),
    fixed=FIXED,
    optional=("pooler",),
    ignored=(
        "discriminator_predictions.*",
        "generator_predictions.*",
        "generator_lm_head.*",
        "qa_outputs.*",
        "classifier.*",
    ),
)
