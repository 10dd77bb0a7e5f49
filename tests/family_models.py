"""Tiny models that every family is held to, of transformers but for BEiT-3.

A new family is one more line.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    CamembertConfig,
    CamembertForSequenceClassification,
    ConvNextConfig,
    ConvNextForImageClassification,
    ConvNextV2Config,
    ConvNextV2ForImageClassification,
    Data2VecTextConfig,
    Data2VecTextForSequenceClassification,
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    DeiTConfig,
    DeiTForImageClassification,
    DeiTForImageClassificationWithTeacher,
    Dinov2Config,
    Dinov2ForImageClassification,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersForImageClassification,
    Dinov2WithRegistersModel,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    EfficientNetConfig,
    EfficientNetForImageClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    MobileNetV2Config,
    MobileNetV2ForImageClassification,
    ModernBertConfig,
    ModernBertForSequenceClassification,
    MPNetConfig,
    MPNetForSequenceClassification,
    RegNetConfig,
    RegNetForImageClassification,
    ResNetConfig,
    ResNetForImageClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
    ViTConfig,
    ViTForImageClassification,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
)

from supernets.families.sizes import Sizes
from supernets.families.super_network import SuperNetwork
from supernets.pretrained.config_json import read_config
from tests.plain_beit3 import CLASSES, PlainBeit3Config, beit3, beit3_pairs, beit3_questions

SIZES: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "num_labels": 5,
}
VIT_SIZES: dict[str, Any] = {**SIZES, "image_size": 16, "patch_size": 4}
BERT_SIZES: dict[str, Any] = {**SIZES, "vocab_size": 50, "max_position_embeddings": 20}
ROBERTA_SIZES: dict[str, Any] = {**BERT_SIZES, "max_position_embeddings": 22, "type_vocab_size": 1}
MODERN: dict[str, Any] = {
    "local_attention": 6,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "cls_token_id": 1,
    "sep_token_id": 2,
}
DEBERTA_V3: dict[str, Any] = {
    "relative_attention": True,
    "position_buckets": 4,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": "p2c|c2p",
    "position_biased_input": False,
}
RESNET_SIZES: dict[str, Any] = {
    "embedding_size": 8,
    "depths": [2, 3],
    "num_labels": 5,
    "image_size": 32,
}

CONVNEXT_SIZES: dict[str, Any] = {
    "num_stages": 2,
    "depths": [2, 3],
    "hidden_sizes": [8, 12],
    "patch_size": 4,
    "image_size": 20,
    "num_labels": 5,
}

SWIN_SIZES: dict[str, Any] = {
    "image_size": 16,
    "patch_size": 2,
    "window_size": 4,
    "embed_dim": 8,
    "depths": [2, 3],
    "num_heads": [4, 8],
    "num_labels": 5,
}


def tower(**more: Any) -> dict[str, Any]:
    """Fields of a model whose image tower has sizes of its own."""
    return {"vision_config": {**VIT_SIZES, **more}, "num_labels": 5}


MOBILENET_SIZES: dict[str, Any] = {
    "depth_multiplier": 0.1,
    "expand_ratio": 2.0,
    "finegrained_output": False,
    "image_size": 36,
    "num_labels": 5,
}

EFFICIENTNET_SIZES: dict[str, Any] = {
    "width_coefficient": 0.1,
    "depth_coefficient": 1.1,
    "in_channels": [32, 80, 120],
    "out_channels": [80, 120, 160],
    "kernel_sizes": [3, 5, 3],
    "strides": [1, 2, 2],
    "num_block_repeats": [1, 2, 1],
    "expand_ratios": [1, 2, 3],
    "depthwise_padding": [5],
    "hidden_dim": 128,
    "image_size": 27,
    "num_labels": 5,
}

REGNET_SIZES: dict[str, Any] = {
    "embedding_size": 8,
    "hidden_sizes": [8, 16],
    "depths": [2, 3],
    "groups_width": 4,
    "image_size": 21,
    "num_labels": 5,
}

LABELS = ("a", "b", "c", "d", "e")

MODELS: dict[str, Callable[[], Any]] = {
    "vit": lambda: ViTForImageClassification(ViTConfig(**VIT_SIZES)),
    "vit-no-bias": lambda: ViTForImageClassification(ViTConfig(**VIT_SIZES, qkv_bias=False)),
    "deit": lambda: DeiTForImageClassification(DeiTConfig(**VIT_SIZES)),
    "deit-distilled": lambda: DeiTForImageClassificationWithTeacher(DeiTConfig(**VIT_SIZES)),
    "vit_msn": lambda: transformers.ViTMSNForImageClassification(
        transformers.ViTMSNConfig(**VIT_SIZES)
    ),
    "ijepa": lambda: transformers.IJepaForImageClassification(
        transformers.IJepaConfig(**VIT_SIZES)
    ),
    "dinov2-swiglu-registers": lambda: Dinov2WithRegistersForImageClassification(
        Dinov2WithRegistersConfig(**VIT_SIZES, use_swiglu_ffn=True, qkv_bias=False)
    ),
    "dinov2": lambda: Dinov2ForImageClassification(Dinov2Config(**VIT_SIZES)),
    "clip": lambda: transformers.CLIPForImageClassification(transformers.CLIPConfig(**tower())),
    "clip-gelu": lambda: transformers.CLIPForImageClassification(
        transformers.CLIPConfig(**tower(hidden_act="gelu"))
    ),
    "beit": lambda: transformers.BeitForImageClassification(
        transformers.BeitConfig(**VIT_SIZES, use_relative_position_bias=True)
    ),
    "beit-class-token": lambda: transformers.BeitForImageClassification(
        transformers.BeitConfig(
            **VIT_SIZES,
            use_absolute_position_embeddings=True,
            use_mean_pooling=False,
        )
    ),
    "data2vec-vision": lambda: transformers.Data2VecVisionForImageClassification(
        transformers.Data2VecVisionConfig(**VIT_SIZES, use_relative_position_bias=True)
    ),
    "beit3": beit3,
    "beit3-questions": beit3_questions,
    "beit3-pairs": beit3_pairs,
    "swin": lambda: transformers.SwinForImageClassification(transformers.SwinConfig(**SWIN_SIZES)),
    "siglip": lambda: transformers.SiglipForImageClassification(
        transformers.SiglipConfig(**tower())
    ),
    "bert": lambda: BertForSequenceClassification(BertConfig(**BERT_SIZES)),
    "distilbert": lambda: DistilBertForSequenceClassification(
        DistilBertConfig(**BERT_SIZES, hidden_dim=24)
    ),
    "roberta": lambda: RobertaForSequenceClassification(RobertaConfig(**ROBERTA_SIZES)),
    "roberta-token-types": lambda: RobertaForSequenceClassification(
        RobertaConfig(**{**ROBERTA_SIZES, "type_vocab_size": 2})
    ),
    "xlm-roberta": lambda: XLMRobertaForSequenceClassification(XLMRobertaConfig(**ROBERTA_SIZES)),
    "camembert": lambda: CamembertForSequenceClassification(CamembertConfig(**ROBERTA_SIZES)),
    "data2vec-text": lambda: Data2VecTextForSequenceClassification(
        Data2VecTextConfig(**ROBERTA_SIZES)
    ),
    "mpnet": lambda: MPNetForSequenceClassification(
        MPNetConfig(**{**BERT_SIZES, "max_position_embeddings": 22})
    ),
    "modernbert": lambda: ModernBertForSequenceClassification(
        ModernBertConfig(**BERT_SIZES, **MODERN)
    ),
    "modernbert-mean": lambda: ModernBertForSequenceClassification(
        ModernBertConfig(
            **BERT_SIZES,
            **MODERN,
            classifier_pooling="mean",
            norm_bias=True,
            mlp_bias=True,
            attention_bias=True,
            classifier_bias=True,
        )
    ),
    "deberta-v3": lambda: DebertaV2ForSequenceClassification(
        DebertaV2Config(**BERT_SIZES, **DEBERTA_V3)
    ),
    "deberta-own-projections": lambda: DebertaV2ForSequenceClassification(
        DebertaV2Config(
            **BERT_SIZES, relative_attention=True, pos_att_type="c2p", type_vocab_size=2
        )
    ),
    "electra": lambda: ElectraForSequenceClassification(
        ElectraConfig(**BERT_SIZES, embedding_size=8)
    ),
    "electra-same-width": lambda: ElectraForSequenceClassification(
        ElectraConfig(**BERT_SIZES, embedding_size=16)
    ),
    "resnet-basic": lambda: ResNetForImageClassification(
        ResNetConfig(**RESNET_SIZES, layer_type="basic", hidden_sizes=[8, 16])
    ),
    "resnet-bottleneck": lambda: ResNetForImageClassification(
        ResNetConfig(**RESNET_SIZES, layer_type="bottleneck", hidden_sizes=[32, 64])
    ),
    "resnet-v1": lambda: ResNetForImageClassification(
        ResNetConfig(
            **RESNET_SIZES,
            layer_type="bottleneck",
            hidden_sizes=[32, 64],
            downsample_in_bottleneck=True,
            downsample_in_first_stage=True,
        )
    ),
    "convnext": lambda: ConvNextForImageClassification(ConvNextConfig(**CONVNEXT_SIZES)),
    "mobilenet_v2": lambda: MobileNetV2ForImageClassification(MobileNetV2Config(**MOBILENET_SIZES)),
    "regnet-y": lambda: RegNetForImageClassification(RegNetConfig(**REGNET_SIZES, layer_type="y")),
    "regnet-x": lambda: RegNetForImageClassification(
        RegNetConfig(**REGNET_SIZES, layer_type="x", downsample_in_first_stage=False)
    ),
    "efficientnet": lambda: EfficientNetForImageClassification(
        EfficientNetConfig(**EFFICIENTNET_SIZES)
    ),
    "convnextv2": lambda: ConvNextV2ForImageClassification(ConvNextV2Config(**CONVNEXT_SIZES)),
}

BACKBONES: dict[str, tuple[Callable[[], Any], Callable[[Any], Tensor]]] = {
    "dinov2": (lambda: Dinov2Model(Dinov2Config(**VIT_SIZES)), lambda out: first_and_mean(out, 1)),
    "dinov2_with_registers": (
        lambda: Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**VIT_SIZES)),
        lambda out: first_and_mean(out, 5),
    ),
    "clip_vision_model": (
        lambda: transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**VIT_SIZES)),
        lambda out: out.last_hidden_state[:, 1:].mean(dim=1),
    ),
    "beit-shared": (
        lambda: transformers.BeitModel(
            transformers.BeitConfig(
                **VIT_SIZES,
                use_relative_position_bias=True,
                use_shared_relative_position_bias=True,
                use_absolute_position_embeddings=True,
                use_mask_token=True,
                layer_scale_init_value=0.0,
            )
        ),
        lambda out: out.pooler_output,
    ),
    "vit_mae": (
        lambda: transformers.ViTMAEModel(transformers.ViTMAEConfig(**VIT_SIZES, mask_ratio=0.0)),
        lambda out: out.last_hidden_state[:, 0],
    ),
    "siglip_vision_model": (
        lambda: transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**VIT_SIZES)),
        lambda out: out.last_hidden_state.mean(dim=1),
    ),
}
"""Models of images without a classifier -> what a new one reads of their outputs."""


def first_and_mean(out: Any, prefix: int) -> Tensor:
    """Class token and mean of the patches, feature by feature."""
    tokens_BTD = out.last_hidden_state
    both = tokens_BTD[:, 0], tokens_BTD[:, prefix:].mean(dim=1)
    return torch.stack(both, dim=2).flatten(1)


def make(family: str, seed: int = 0) -> Any:
    """A transformers model with named labels and no norm or statistic at its initial value."""
    return disturbed(MODELS[family], seed)


def disturbed(made: Callable[[], Any], seed: int = 0) -> Any:
    """See `make`."""
    torch.manual_seed(seed)
    model = made().eval()
    model.config.id2label = dict(enumerate(LABELS))
    model.config.label2id = {name: number for number, name in enumerate(LABELS)}
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                tensor += 0.1 * torch.rand_like(tensor) if "var" in name else 0
                tensor += 0.1 * torch.randn_like(tensor) if "var" not in name else 0
    return model


def described(folder: Path) -> Any:
    """A model as the config.json of a folder describes it, and its config."""
    config = json.loads((folder / "config.json").read_text())
    if config["model_type"] == PlainBeit3Config.model_type:
        made = CLASSES[config["architectures"][0]]
        return made(PlainBeit3Config.from_pretrained(folder)).train(False)
    read = transformers.AutoConfig.from_pretrained(folder)
    return getattr(transformers, config["architectures"][0])(read).eval()


@cache
def config_of(name: str) -> Sizes:
    """Our sizes of one of the models."""
    model = MODELS[name]()
    return read_config({**model.config.to_dict(), "architectures": [type(model).__name__]})


def one_per_family() -> dict[str, str]:
    """Family -> the first of its models."""
    found: dict[str, str] = {}
    for name in MODELS:
        found.setdefault(config_of(name).family, name)
    return found


def inputs_for(network: SuperNetwork) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    inputs = network.example_inputs(3)
    made = {}
    if "pixel_values" in inputs:
        made = {"pixel_values": torch.randn(inputs["pixel_values"].shape, generator=generator)}
    if "input_ids" not in inputs:
        return made
    ids = torch.randint(50, inputs["input_ids"].shape, generator=generator)
    mask = torch.ones_like(ids)
    mask[0, 7:], mask[1, 3:] = 0, 0
    types = torch.randint(2, ids.shape, generator=generator)
    made |= {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
    return {name: made[name] for name in inputs}
