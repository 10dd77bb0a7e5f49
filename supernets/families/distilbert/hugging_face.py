"""Checkpoints of DistilBERT."""

from __future__ import annotations

from supernets.families.hugging_face import Field, HuggingFace, Variant

BLOCK = "transformer.layer.{}"

HUGGING_FACE = HuggingFace(
    names={
        "embeddings.word": "embeddings.word_embeddings",
        "embeddings.position": "embeddings.position_embeddings",
        "embeddings.norm": "embeddings.LayerNorm",
        "blocks.{}.attention.query": f"{BLOCK}.attention.q_lin",
        "blocks.{}.attention.key": f"{BLOCK}.attention.k_lin",
        "blocks.{}.attention.value": f"{BLOCK}.attention.v_lin",
        "blocks.{}.attention.out": f"{BLOCK}.attention.out_lin",
        "blocks.{}.attention_norm": f"{BLOCK}.sa_layer_norm",
        "blocks.{}.mlp.fc1": f"{BLOCK}.ffn.lin1",
        "blocks.{}.mlp.fc2": f"{BLOCK}.ffn.lin2",
        "blocks.{}.mlp_norm": f"{BLOCK}.output_layer_norm",
        "pooler": "pre_classifier",
    },
    fields={
        "vocab_size": Field("vocab_size"),
        "max_positions": Field("max_position_embeddings"),
        "embed_dim": Field("dim"),
        "depth": Field("n_layers"),
        "num_heads": Field("n_heads"),
        "hidden_dim": Field("hidden_dim"),
    },
    variants=(Variant("distilbert", "DistilBertForSequenceClassification", ("classifier",)),),
    fixed={"activation": ("gelu", "gelu_python")},
    optional=("pooler",),
    ignored=("vocab_*", "qa_outputs.*", "classifier.*"),
)
