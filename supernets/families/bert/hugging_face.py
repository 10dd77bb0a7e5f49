"""Checkpoints of BERT, and what its relatives call the same."""

from __future__ import annotations

from typing import Any

from supernets.families.hugging_face import Field, HuggingFace, Variant

EMBEDDINGS = {
    "embeddings.word": "embeddings.word_embeddings",
    "embeddings.position": "embeddings.position_embeddings",
    "embeddings.token_type": "embeddings.token_type_embeddings",
    "embeddings.norm": "embeddings.LayerNorm",
}
BLOCKS = {
    "blocks.{}.attention.query": "encoder.layer.{}.attention.self.query",
    "blocks.{}.attention.key": "encoder.layer.{}.attention.self.key",
    "blocks.{}.attention.value": "encoder.layer.{}.attention.self.value",
    "blocks.{}.attention.out": "encoder.layer.{}.attention.output.dense",
    "blocks.{}.attention_norm": "encoder.layer.{}.attention.output.LayerNorm",
    "blocks.{}.mlp.fc1": "encoder.layer.{}.intermediate.dense",
    "blocks.{}.mlp.fc2": "encoder.layer.{}.output.dense",
    "blocks.{}.mlp_norm": "encoder.layer.{}.output.LayerNorm",
}
FIELDS = {
    "vocab_size": Field("vocab_size"),
    "max_positions": Field("max_position_embeddings"),
    "token_types": Field("type_vocab_size"),
    "embed_dim": Field("hidden_size"),
    "depth": Field("num_hidden_layers"),
    "num_heads": Field("num_attention_heads"),
    "hidden_dim": Field("intermediate_size"),
    "layer_norm_eps": Field("layer_norm_eps"),
}
FIXED: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("gelu", "gelu_python"),
    "position_embedding_type": ("absolute",),
    "is_decoder": (False,),
    "add_cross_attention": (False,),
}

HUGGING_FACE = HuggingFace(
    names={**EMBEDDINGS, **BLOCKS, "pooler": "pooler.dense"},
    fields=FIELDS,
    variants=(Variant("bert", "BertForSequenceClassification", ("classifier",)),),
    fixed=FIXED,
    optional=("pooler",),
    ignored=("cls.*", "qa_outputs.*", "classifier.*"),
)
