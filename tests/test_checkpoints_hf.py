"""Checkpoints against transformers: largest equal, sub-networks equal to models built small."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    DeiTConfig,
    DeiTForImageClassification,
    DeiTForImageClassificationWithTeacher,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
)

from supernets.data.data import TaskData
from supernets.data.image_preprocessor import ImagePreprocessor
from supernets.families.hugging_face import CheckpointError
from supernets.families.super_network import SuperNetwork
from supernets.load import Start, load_supernet
from supernets.model_settings import ModelSettings
from supernets.pretrained.checkpoint import open_checkpoint
from supernets.pretrained.config_json import hugging_face

transformers.logging.set_verbosity_error()

SIZES: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "num_labels": 5,
}
VIT_SIZES: dict[str, Any] = {**SIZES, "image_size": 16, "patch_size": 4}
BERT_SIZES: dict[str, Any] = {**SIZES, "vocab_size": 50, "max_position_embeddings": 20}
RESNET_SIZES: dict[str, Any] = {
    "embedding_size": 8,
    "depths": [2, 3],
    "num_labels": 5,
    "image_size": 32,
}

MODELS: dict[str, Callable[[], Any]] = {
    "vit": lambda: ViTForImageClassification(ViTConfig(**VIT_SIZES)),
    "vit-no-bias": lambda: ViTForImageClassification(ViTConfig(**VIT_SIZES, qkv_bias=False)),
    "deit": lambda: DeiTForImageClassification(DeiTConfig(**VIT_SIZES)),
    "deit-distilled": lambda: DeiTForImageClassificationWithTeacher(DeiTConfig(**VIT_SIZES)),
    "bert": lambda: BertForSequenceClassification(BertConfig(**BERT_SIZES)),
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
}
NAMES = ("a", "b", "c", "d", "e")


def make(family: str, seed: int = 0) -> Any:
    """A transformers model with no norm or statistic at its initial value."""
    torch.manual_seed(seed)
    model = MODELS[family]().eval()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                tensor += 0.1 * torch.rand_like(tensor) if "var" in name else 0
                tensor += 0.1 * torch.randn_like(tensor) if "var" not in name else 0
    return model


def task(names: Sequence[str] = NAMES, size: int | None = None) -> TaskData:
    pixels = ImagePreprocessor.plain(size) if size else None
    none: Any = None  # no split of the data is read
    return TaskData(none, none, none, tuple(names), pixels or none)


def inputs_for(network: SuperNetwork) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    inputs = network.example_inputs(3)
    if "pixel_values" in inputs:
        return {"pixel_values": torch.randn(inputs["pixel_values"].shape, generator=generator)}
    ids = torch.randint(50, inputs["input_ids"].shape, generator=generator)
    mask = torch.ones_like(ids)
    mask[0, 7:], mask[1, 3:] = 0, 0
    types = torch.randint(2, ids.shape, generator=generator)
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}


def load(
    folder: Path, names: Sequence[str] = NAMES, size: int | None = None, **settings: Any
) -> Start:
    model = ModelSettings(checkpoint=str(folder), **settings)
    return load_supernet(model, task(names, size), seed=0)


@pytest.mark.parametrize("family", MODELS)
def test_largest_network_gives_transformers_logits(family: str, tmp_path: Path) -> None:
    model = make(family)
    model.save_pretrained(tmp_path)
    start = load(tmp_path)
    inputs = inputs_for(start.network)
    with torch.no_grad():
        expected = model(**inputs).logits
        torch.testing.assert_close(start.network(**inputs), expected, atol=1e-5, rtol=1e-5)
        deployed = start.network.deploy()(**inputs)
    torch.testing.assert_close(deployed, expected, atol=1e-5, rtol=1e-5)
    assert start.notes == ()


UNIFORM: dict[str, dict[str, Any]] = {
    "vit": {"num_hidden_layers": 2, "intermediate_size": 16},
    "bert": {"num_hidden_layers": 2, "intermediate_size": 16},
    "resnet-bottleneck": {"depths": [1, 2]},
}


@pytest.mark.parametrize("family", UNIFORM)
def test_sub_network_equals_a_transformers_model_of_its_size(family: str, tmp_path: Path) -> None:
    """Where transformers' configuration can express the sub-network."""
    model = make(family)
    model.save_pretrained(tmp_path / "large")
    network = load(tmp_path / "large").network
    small = {**model.config.to_dict(), **UNIFORM[family]}
    if "depths" in small:
        network.activate({f"stages.{i}.depth": depth for i, depth in enumerate(small["depths"])})
    else:
        network.activate({"depth": 2, **{f"blocks.{i}.mlp.hidden_dim": 16 for i in range(2)}})
    known = hugging_face(network.config.family)
    tensors = network.extract().state_dict()
    renamed = {theirs: tensors[ours] for ours, theirs in known.renaming(tensors).items()}
    if "embeddings.patch_embeddings.projection.weight" in renamed:
        key = "embeddings.patch_embeddings.projection.weight"
        renamed[key] = renamed[key].view(16, 3, 4, 4)
    prefix = small["model_type"]
    state = {f"{prefix}.{name}": tensor.contiguous() for name, tensor in renamed.items()}
    head = known.variant(small).heads[0]
    state |= {f"{head}.{k}": tensors[f"head.{k}"] for k in ("weight", "bias")}
    small_folder = tmp_path / "small"
    small_folder.mkdir()
    (small_folder / "config.json").write_text(json.dumps(small))
    save_file(state, small_folder / "model.safetensors", metadata={"format": "pt"})
    theirs = type(model).from_pretrained(small_folder).eval()
    inputs = inputs_for(network)
    with torch.no_grad():
        torch.testing.assert_close(network(**inputs), theirs(**inputs).logits, atol=1e-5, rtol=1e-5)


def torchvision_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """transformers' ResNet names in torchvision's terms."""
    renamed = {}
    for name, tensor in tensors.items():
        name = name.removeprefix("resnet.").replace("embedder.embedder.convolution", "conv1")
        name = name.replace("embedder.embedder.normalization", "bn1")
        name = name.replace("classifier.1", "fc")
        parts = name.split(".")
        if parts[0] == "encoder":
            stage, index = int(parts[2]) + 1, parts[4]
            if parts[5] == "shortcut":
                middle = "downsample.0" if parts[6] == "convolution" else "downsample.1"
                name = f"layer{stage}.{index}.{middle}.{parts[7]}"
            else:
                kind = "conv" if parts[7] == "convolution" else "bn"
                name = f"layer{stage}.{index}.{kind}{int(parts[6]) + 1}.{parts[8]}"
        renamed[name] = tensor
    return renamed


@pytest.mark.parametrize("family", ["resnet-basic", "resnet-bottleneck"])
def test_torchvision_and_timm_names_load(family: str, tmp_path: Path) -> None:
    model = make(family)
    file = tmp_path / "resnet.safetensors"
    save_file(torchvision_names(model.state_dict()), file)
    start = load(file, size=32)
    inputs = inputs_for(start.network)
    with torch.no_grad():
        expected = model(**inputs).logits
        torch.testing.assert_close(start.network(**inputs), expected, atol=1e-5, rtol=1e-5)


def test_sentence_transformers_folder_without_a_head(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = BertModel(BertConfig(**BERT_SIZES)).eval()
    model.save_pretrained(tmp_path)
    start = load(tmp_path)
    inputs = inputs_for(start.network)
    with torch.no_grad():
        pooled = model(**inputs).pooler_output
        expected = start.network.head(pooled)
        torch.testing.assert_close(start.network(**inputs), expected, atol=1e-5, rtol=1e-5)
    assert start.notes == ("model.checkpoint: a new classifier is trained",)


def test_transformer_in_a_sub_folder_is_found(tmp_path: Path) -> None:
    make("bert").save_pretrained(tmp_path / "0_BERT")
    assert open_checkpoint(str(tmp_path)).folder == tmp_path / "0_BERT"


def test_sharded_checkpoint_loads(tmp_path: Path) -> None:
    model = make("bert")
    model.save_pretrained(tmp_path, max_shard_size="10KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    inputs = inputs_for(network := load(tmp_path).network)
    with torch.no_grad():
        expected = model(**inputs).logits
        torch.testing.assert_close(network(**inputs), expected, atol=1e-5, rtol=1e-5)


def test_head_of_another_size_is_replaced_and_said_so(tmp_path: Path) -> None:
    make("vit").save_pretrained(tmp_path)
    start = load(tmp_path, names=("x", "y"))
    assert start.network.num_labels == 2
    assert "5 labels is replaced by a new one for 2" in start.notes[0]
    again = load(tmp_path, names=("x", "y"))
    torch.testing.assert_close(start.network.head.weight, again.network.head.weight)


def test_head_rows_follow_the_order_of_the_datas_labels(tmp_path: Path) -> None:
    model = make("vit")
    model.config.id2label = dict(enumerate(["E", "D", "C", "B", "A"]))
    model.config.label2id = {name: i for i, name in model.config.id2label.items()}
    model.save_pretrained(tmp_path)
    network = load(tmp_path).network
    inputs = inputs_for(network)
    with torch.no_grad():
        expected = model(**inputs).logits.flip(1)
        torch.testing.assert_close(network(**inputs), expected, atol=1e-5, rtol=1e-5)


def test_other_label_names_are_refused_unless_told(tmp_path: Path) -> None:
    model = make("vit")
    model.config.id2label = dict(enumerate(["v", "w", "x", "y", "z"]))
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"its labels are as many as the data's, but not the same"):
        load(tmp_path)
    assert load(tmp_path, head="keep").notes == ()
    assert "new classifier" in load(tmp_path, head="new").notes[0]


def test_positions_are_interpolated_to_another_image_size(tmp_path: Path) -> None:
    model = make("vit")
    model.save_pretrained(tmp_path)
    network = load(tmp_path, size=32).network
    inputs = inputs_for(network)
    assert inputs["pixel_values"].shape[-1] == 32
    with torch.no_grad():
        expected = model(**inputs, interpolate_pos_encoding=True).logits
        torch.testing.assert_close(network(**inputs), expected, atol=1e-5, rtol=1e-5)


def break_config(folder: Path, **changes: object) -> None:
    file = folder / "config.json"
    config = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "swin"}, "'swin' is not supported; supported are vit, deit, bert, resnet"),
        ({"hidden_act": "relu"}, "hidden_act 'relu'; only 'gelu' or"),
        ({"hidden_size": 15}, "embed_dim 15 must be divisible by num_heads 4"),
        ({"hidden_size": None}, r"sizes of the weights .* instead of"),
        ({"num_hidden_layers": 4}, "no weights for 16 of"),
        ({"intermediate_size": 32}, r"mlp.fc1.weight \(24, 16\) instead of \(32, 16\)"),
    ],
)
def test_unusable_configuration_is_one_clear_message(
    changes: dict[str, object], message: str, tmp_path: Path
) -> None:
    make("vit").save_pretrained(tmp_path)
    break_config(tmp_path, **changes)
    with pytest.raises(CheckpointError, match=message):
        load(tmp_path)


def test_unusable_folders_are_one_clear_message(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no config\.json"):
        open_checkpoint(str(tmp_path))
    make("vit").save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="cannot be read as safetensors"):
        load(tmp_path)
    weights.rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="Pickled weights are never opened"):
        load(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="is no readable JSON"):
        load(tmp_path)


def test_unknown_weights_file_is_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match="only ordinary ResNets"):
        load(tmp_path / "x.safetensors", size=32)


def test_weights_are_read_without_changing_them(tmp_path: Path) -> None:
    make("vit").save_pretrained(tmp_path)
    before = load_file(tmp_path / "model.safetensors")
    load(tmp_path)
    after = load_file(tmp_path / "model.safetensors")
    assert all(np.array_equal(before[name], after[name]) for name in before)
