"""What the examples name, laid where they look for it: tiny checkpoints and data sets, whose heads,
tokenizers, columns and splits are those of the ones on the hub."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import transformers
import yaml
from datasets import ClassLabel, Dataset, Features, Image, Sequence, Value
from PIL import Image as Picture

from supernets.tasks.embedding import write_embedder
from tests.family_models import (
    DEBERTA_V3,
    EFFICIENTNET_SIZES,
    MOBILENET_SIZES,
    MODERN,
    REGNET_SIZES,
)
from tests.plain_beit3 import beit3
from tests.sample_images import content
from tests.test_shipped_texts import TOKENIZERS, WORDS, word_pieces

hf: Any = transformers
"""Its configurations take fields that their annotations do not know."""

LABELS = ("tench, Tinca tinca", "goldfish, Carassius auratus", "great white shark")
"""As ImageNet calls them."""

SIZES: dict[str, Any] = {
    "hidden_size": 12,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 24,
}
MINI_LM = {**SIZES, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
BASE = {**MINI_LM, "num_hidden_layers": 12, "intermediate_size": 3072}
"""Spaces name numbers of blocks, heads and neurons of these."""

TEXTS = {"vocab_size": 80, "max_position_embeddings": 130}
IMAGES = {"image_size": 32, "patch_size": 16}
TOWERS = {"text_config": {**SIZES, **TEXTS}, "vision_config": {**SIZES, **IMAGES}}

CHECKPOINTS: dict[str, Callable[[], Any]] = {
    "google-bert/bert-base-uncased": lambda: hf.BertForMaskedLM(hf.BertConfig(**BASE, **TEXTS)),
    "sentence-transformers/all-MiniLM-L6-v2": lambda: hf.BertModel(
        hf.BertConfig(**MINI_LM, **TEXTS)
    ),
    "distilbert/distilbert-base-uncased": lambda: hf.DistilBertForMaskedLM(
        hf.DistilBertConfig(**SIZES, **TEXTS, hidden_dim=24)
    ),
    "FacebookAI/roberta-base": lambda: hf.RobertaForMaskedLM(
        hf.RobertaConfig(**SIZES, **TEXTS, type_vocab_size=1)
    ),
    "google/electra-small-discriminator": lambda: hf.ElectraForPreTraining(
        hf.ElectraConfig(**SIZES, **TEXTS, embedding_size=8)
    ),
    "microsoft/mpnet-base": lambda: hf.MPNetForMaskedLM(hf.MPNetConfig(**SIZES, **TEXTS)),
    "microsoft/deberta-v3-small": lambda: hf.DebertaV2ForMaskedLM(
        hf.DebertaV2Config(**SIZES, **TEXTS, **DEBERTA_V3)
    ),
    "answerdotai/ModernBERT-base": lambda: hf.ModernBertForMaskedLM(
        hf.ModernBertConfig(**{**SIZES, "hidden_size": 16}, **TEXTS, **MODERN)
    ),
    "facebook/dinov2-small": lambda: hf.Dinov2Model(
        hf.Dinov2Config(**SIZES, image_size=42, patch_size=14, mlp_ratio=2)
    ),
    "openai/clip-vit-base-patch32": lambda: hf.CLIPModel(hf.CLIPConfig(**TOWERS)),
    "google/siglip-base-patch16-224": lambda: hf.SiglipModel(hf.SiglipConfig(**TOWERS)),
    "microsoft/beit-base-patch16-224-pt22k-ft22k": lambda: hf.BeitForImageClassification(
        hf.BeitConfig(**SIZES, **IMAGES, num_labels=7, use_relative_position_bias=True)
    ),
    "google/vit-base-patch16-224": lambda: hf.ViTForImageClassification(
        hf.ViTConfig(
            **BASE,
            **IMAGES,
            id2label=dict(enumerate(LABELS)),
            label2id={name: number for number, name in enumerate(LABELS)},
        )
    ),
    "checkpoints/beit3-base": lambda: beit3(
        img_size=32,
        patch_size=16,
        encoder_embed_dim=12,
        encoder_layers=12,
        encoder_attention_heads=12,
        encoder_ffn_embed_dim=3072,
        num_labels=len(LABELS),
    ),
    "microsoft/swin-tiny-patch4-window7-224": lambda: hf.SwinForImageClassification(
        hf.SwinConfig(
            image_size=32,
            patch_size=2,
            window_size=4,
            embed_dim=12,
            depths=[2, 5, 2],
            num_heads=[3, 6, 12],
            num_labels=1000,
        )
    ),
    "google/efficientnet-b0": lambda: hf.EfficientNetForImageClassification(
        hf.EfficientNetConfig(
            **{**EFFICIENTNET_SIZES, "num_block_repeats": [1, 2, 4], "num_labels": 1000}
        )
    ),
    "google/mobilenet_v2_1.0_224": lambda: hf.MobileNetV2ForImageClassification(
        hf.MobileNetV2Config(**{**MOBILENET_SIZES, "num_labels": 1001})
    ),
    "facebook/regnet-y-040": lambda: hf.RegNetForImageClassification(
        hf.RegNetConfig(**{**REGNET_SIZES, "depths": [2, 5], "num_labels": 1000}, layer_type="y")
    ),
}
"""Name on the hub -> a model of the class that it is published as."""

IMAGENET: dict[str, Any] = {
    "do_resize": True,
    "size": {"height": 32, "width": 32},
    "do_rescale": True,
    "do_normalize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}
CROPPED = {
    **IMAGENET,
    "size": {"shortest_edge": 36},
    "do_center_crop": True,
    "crop_size": {"height": 32, "width": 32},
}
PROCESSORS = {
    "facebook/dinov2-small": {**CROPPED, "image_processor_type": "BitImageProcessor"},
    "openai/clip-vit-base-patch32": {**CROPPED, "image_processor_type": "CLIPImageProcessor"},
    "checkpoints/beit3-base": {**CROPPED, "image_processor_type": "CLIPImageProcessor"},
    "google/siglip-base-patch16-224": {**IMAGENET, "image_processor_type": "SiglipImageProcessor"},
    "microsoft/beit-base-patch16-224-pt22k-ft22k": {
        **IMAGENET,
        "image_processor_type": "BeitImageProcessor",
    },
    "google/efficientnet-b0": {**IMAGENET, "image_processor_type": "EfficientNetImageProcessor"},
    "google/mobilenet_v2_1.0_224": {
        **CROPPED,
        "image_processor_type": "MobileNetV2ImageProcessor",
    },
    "facebook/regnet-y-040": {
        **IMAGENET,
        "image_processor_type": "ConvNextImageProcessor",
        "size": {"shortest_edge": 32},
        "crop_pct": 0.875,
    },
}
"""Of checkpoints of images that are not prepared as ViT's."""


def write_checkpoint(name: str, folder: Path) -> None:
    """Write a checkpoint of this name as it lies on the hub."""
    model = CHECKPOINTS[name]()
    model.save_pretrained(folder)
    if name in PROCESSORS or model.main_input_name == "pixel_values":
        usual = {**IMAGENET, "image_processor_type": "ViTImageProcessor"}
        (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSORS.get(name, usual)))
    else:
        _tokenizer(model.config.model_type).save_pretrained(folder)
    if "sentence-transformers" in name:
        write_embedder(folder, "mean", model.config.hidden_size, 128)


def _tokenizer(model_type: str) -> Any:
    words = [" ".join(WORDS)] * 3
    kind = {"deberta-v2": "deberta", "modernbert": "roberta"}.get(model_type, model_type)
    return TOKENIZERS.get(kind, word_pieces)(words)


ROWS = 60
"""Of every split."""

Column = Callable[[int], Any]
"""The value of a row by its number."""


def text(row: int) -> str:
    return " ".join(WORDS[(row + place) % len(WORDS)] for place in range(3 + row % 5))


def picture(row: int) -> dict[str, Any]:
    pixels = np.full((16, 16, 3), (37 * row) % 256, np.uint8)
    return {"bytes": content(Picture.fromarray(pixels)), "path": None}


def of_classes(*names: str, unknown: tuple[str, ...] = ()) -> tuple[Any, Column]:
    return ClassLabel(names=list(names)), lambda row: row % len(names)


TEXT, IMAGE = (Value("string"), text), (Image(), picture)
NUMBER = (Value("int32"), int)
CARD = "---\nconfigs:\n- config_name: {}\n  data_files:\n{}\n---\n"

DATA: dict[tuple[str, str], tuple[dict[str, tuple[Any, Column]], tuple[str, ...], Any]] = {
    ("nyu-mll/glue", "sst2"): (
        {"sentence": TEXT, "label": of_classes("negative", "positive"), "idx": NUMBER},
        ("train", "validation", "test"),
        {"label": -1},
    ),
    ("nyu-mll/glue", "stsb"): (
        {
            "sentence1": TEXT,
            "sentence2": (Value("string"), lambda row: text(3 * row)),
            "label": (Value("float32"), lambda row: row % 11 / 2),
            "idx": NUMBER,
        },
        ("train", "validation", "test"),
        {"label": -1.0},
    ),
    ("clinc/clinc_oos", "small"): (
        {"text": TEXT, "intent": of_classes("restaurant_reviews", "nutrition_info", "oos")},
        ("train", "validation", "test"),
        {},
    ),
    ("google-research-datasets/go_emotions", "simplified"): (
        {
            "text": TEXT,
            "labels": (
                Sequence(ClassLabel(names=["admiration", "amusement", "neutral"])),
                lambda row: [row % 3, 2] if row % 4 == 0 and row % 3 != 2 else [row % 3],
            ),
            "id": (Value("string"), str),
        },
        ("train", "validation", "test"),
        {},
    ),
    ("timm/oxford-iiit-pet", "default"): (
        {
            "image": IMAGE,
            "label": of_classes("abyssinian", "american_bulldog", "beagle"),
            "image_id": (Value("string"), str),
            "label_cat_dog": of_classes("cat", "dog"),
        },
        ("train", "test"),
        {},
    ),
    ("uoft-cs/cifar10", "plain_text"): (
        {"img": IMAGE, "label": of_classes("airplane", "automobile", "bird")},
        ("train", "test"),
        {},
    ),
    ("ethz/food101", "default"): (
        {"image": IMAGE, "label": of_classes("apple_pie", "baby_back_ribs", "baklava")},
        ("train", "validation"),
        {},
    ),
    ("ILSVRC/imagenet-1k", "default"): (
        {"image": IMAGE, "label": of_classes(*LABELS)},
        ("train", "validation", "test"),
        {"label": -1},
    ),
}
"""Name and configuration -> columns, splits, and what stands for labels that are kept secret."""


def write_data(name: str, config: str | None, folder: Path) -> None:
    """Write a data set of this name as it lies on the hub: parquet, and a card that says which."""
    config, (columns, splits, secret) = next(
        (there, value)
        for (n, there), value in DATA.items()
        if n == name and config in (None, there)
    )
    features = Features({column: feature for column, (feature, _) in columns.items()})
    folder.mkdir(parents=True)
    for split in splits:
        rows = {column: [of(row) for row in range(ROWS)] for column, (_, of) in columns.items()}
        if split == "test":
            rows |= {column: [value] * ROWS for column, value in secret.items()}
        Dataset.from_dict(rows, features).to_parquet(folder / f"{split}.parquet")
    files = "\n".join(f"  - split: {split}\n    path: {split}.parquet" for split in splits)
    (folder / "README.md").write_text(CARD.format(config, files))


def write_own(example: str, folder: Path) -> None:
    """Write the files of one's own that an example asks for in its first lines."""
    folder.mkdir(parents=True)
    if example == "minilm_embedder":
        lines = [json.dumps({"text": text(row)}) for row in range(3 * ROWS)]
        (folder / "texts.jsonl").write_text("\n".join(lines))
    elif example == "ner_distilbert":
        tags = {"film": "B-WORK", "Plot": "B-PART"}
        for split in ("train", "dev", "test"):
            rows = [[f"{w} {tags.get(w, 'O')}\n" for w in text(row).split()] for row in range(ROWS)]
            (folder / f"{split}.conll").write_text("\n".join(map("".join, rows)))
    else:
        _write_easyvqa(folder)


def _write_easyvqa(folder: Path) -> None:
    for number, split in enumerate(("train", "validation", "test")):
        ids = range(number * ROWS, (number + 1) * ROWS)
        images = {"image_id": list(ids), "image": list(map(picture, ids))}
        of_image = Features({"image_id": Value("int64"), "image": Image()})
        Dataset.from_dict(images, of_image).to_parquet(folder / f"{split}-images.parquet")
        asked = {
            "image_id": list(ids),
            "question": list(map(text, ids)),
            "label": ["yes" if row % 2 else "no" for row in ids],
        }
        Dataset.from_dict(asked).to_parquet(folder / f"{split}-questions.parquet")


def lay_out(example: Path, folder: Path) -> Path:
    """Copy an example, and put what it names beside it; gives the copy."""
    sections = yaml.safe_load(example.read_text(encoding="utf-8"))
    checkpoint, data = sections["model"].get("checkpoint"), sections["data"]
    if checkpoint is not None:
        place = Path(checkpoint)
        place = place.parent if place.suffix == ".safetensors" else place
        write_checkpoint(str(place), folder / place)
    if any(data["name"] == name for name, _ in DATA):
        write_data(data["name"], data.get("config"), folder / data["name"])
    elif data["name"] not in ("digits", "pydoc"):
        write_own(example.stem, folder / data["name"])
    copy = folder / example.name
    copy.write_bytes(example.read_bytes())
    return copy
