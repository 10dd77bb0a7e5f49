"""Checkpoints as people have them: spellings, files, classifiers, and what is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    BertConfig,
    BertModel,
)

from supernets.data.data import TaskData
from supernets.data.image_preprocessor import ImagePreprocessor
from supernets.families.hugging_face import CheckpointError
from supernets.families.registry import model_types
from supernets.load import Start, has_new_classifier, load_supernet
from supernets.model_settings import ModelSettings
from supernets.pretrained.checkpoint import open_checkpoint
from supernets.pretrained.config_json import hugging_face, read_config
from supernets.tasks.classification import Classification
from tests.family_models import BERT_SIZES, inputs_for, make

transformers.logging.set_verbosity_error()

NAMES = ("a", "b", "c", "d", "e")


def task(names: Sequence[str] = NAMES, size: int | None = None) -> TaskData:
    pixels = ImagePreprocessor.plain(size) if size else None
    none: Any = None  # no split of the data is read
    train: Any = SimpleNamespace(task=Classification(names))
    return TaskData(train, none, none, tuple(names), pixels or none)


def load(
    folder: Path, names: Sequence[str] = NAMES, size: int | None = None, **settings: Any
) -> Start:
    model = ModelSettings(checkpoint=str(folder), **settings)
    return load_supernet(model, task(names, size), seed=0)


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


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (
            ["Cat", "dog", "old owl", "red_fox", "x-ray"],
            ["x ray", "red fox", "Old_Owl", "DOG", "cat"],
        ),
        (["a b", "a_b", "A B", "c", "d"], ["d", "c", "A B", "a_b", "a b"]),
    ],
)
def test_label_names_may_differ_in_case_blanks_and_underscores(
    theirs: list[str], ours: list[str], tmp_path: Path
) -> None:
    """Names that are alike but for that are told apart as they are written."""
    model = make("vit")
    model.config.id2label = dict(enumerate(theirs))
    model.config.label2id = {name: i for i, name in enumerate(theirs)}
    model.save_pretrained(tmp_path)
    network = load(tmp_path, names=ours).network
    inputs = inputs_for(network)
    with torch.no_grad():
        expected = model(**inputs).logits.flip(1)
        torch.testing.assert_close(network(**inputs), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("given", [True, "cat", ["a", "b"], {"a": "1"}, 5])
@pytest.mark.parametrize("model_type", ["beit3", "vit"])
def test_label_names_that_are_no_table_are_refused(model_type: str, given: object) -> None:
    """In a family that transformers has not, too."""
    with pytest.raises(CheckpointError, match="transformers cannot read"):
        read_config({"model_type": model_type, "id2label": given})


@pytest.mark.parametrize("stages", [2, 5])
@pytest.mark.parametrize("model_type", ["convnext", "convnextv2"])
def test_stages_told_in_two_ways_have_to_agree(model_type: str, stages: int) -> None:
    """transformers builds as many as `num_stages` says; its default is four."""
    config = {"model_type": model_type, "depths": [1, 1, 1, 1], "hidden_sizes": [8] * 4}
    assert read_config(config).model_dump()["depths"] == (1, 1, 1, 1)
    with pytest.raises(CheckpointError, match=f"num_stages {stages} and depths"):
        read_config({**config, "num_stages": stages})


def test_labels_without_names_are_taken_in_order_and_said_so(tmp_path: Path) -> None:
    model = make("vit")
    model.config.id2label = {i: f"LABEL_{i}" for i in range(5)}
    model.save_pretrained(tmp_path)
    assert "its labels have no names" in load(tmp_path).notes[0]


def test_other_label_names_are_refused_unless_told(tmp_path: Path) -> None:
    model = make("vit")
    model.config.id2label = dict(enumerate(["v", "w", "x", "y", "z"]))
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"its labels are as many as the data's, but not the same"):
        load(tmp_path)
    assert load(tmp_path, head="keep").notes == ()
    assert "new classifier" in load(tmp_path, head="new").notes[0]


@pytest.mark.parametrize(
    ("names", "head", "new"),
    [(NAMES, "auto", False), (NAMES, "new", True), (NAMES[:3], "auto", True)],
)
def test_whether_a_new_classifier_is_due(
    names: Sequence[str], head: str, new: bool, tmp_path: Path
) -> None:
    """It is the recipe's question: as the network that is loaded then has one, or not."""
    model = make("bert")
    model.save_pretrained(tmp_path)
    settings = {"checkpoint": str(tmp_path), "head": head}
    given, data = ModelSettings.model_validate(settings), task(names)
    assert has_new_classifier(given, data) is new
    notes = load_supernet(given, data, seed=0).notes
    assert any("new" in note for note in notes) is new


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
        (
            {"model_type": "distilbart"},
            "'distilbart' is not supported; supported are distilbert, .*resnet",
        ),
        ({"hidden_act": "relu"}, "hidden_act 'relu'; only 'gelu' or"),
        ({"hidden_size": 15}, "hidden_size 15 must be divisible by num_attention_heads 4"),
        ({"hidden_size": None}, r"sizes of the weights .* instead of"),
        ({"num_hidden_layers": 4}, "no weights for 16 of"),
        ({"intermediate_size": 32}, r"intermediate.dense.weight is \(24, 16\) instead of \(32"),
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
    weights.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(CheckpointError, match="git lfs pull"):
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


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("model_type", {}, "model_type {} is not supported"),
        ("architectures", 0.5, "architectures 0.5; it must be a list"),
        ("hidden_size", 10**30, "hidden_size: Input should be less than or equal to"),
        ("vocab_size", 10**9, "vocab_size: Input should be less than or equal to"),
        ("num_hidden_layers", 10**6, "num_hidden_layers: Input should be less than or equal to"),
    ],
)
def test_fields_of_a_wrong_kind_are_one_line(
    field: str, value: object, told: str, tmp_path: Path
) -> None:
    make("bert").save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), field: value}))
    with pytest.raises(CheckpointError, match=re.escape(told)):
        load(tmp_path)


def test_a_wrong_size_without_a_field_of_its_own_is_named(tmp_path: Path) -> None:
    make("resnet-basic").save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "hidden_sizes": [-8, 16]}))
    with pytest.raises(CheckpointError, match=r"hidden_sizes\.0: .*than 0 \(given: -8\)$"):
        load(tmp_path)


@pytest.mark.parametrize("listed", [[], {}, None, "text"])
def test_an_index_that_lists_nothing_is_one_line(listed: object, tmp_path: Path) -> None:
    make("bert").save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": listed}))
    with pytest.raises(CheckpointError, match="lists no files under weight_map"):
        load(tmp_path)


def test_a_file_that_an_index_lists_and_is_not_there_is_named(tmp_path: Path) -> None:
    make("bert").save_pretrained(tmp_path, max_shard_size="4KB")
    missing = sorted(tmp_path.glob("model-*.safetensors"))[1]
    missing.unlink()
    with pytest.raises(CheckpointError, match=f"lists {missing.name}, which is not there"):
        load(tmp_path)


def test_weights_beyond_the_memory_are_refused_before_they_are_made() -> None:
    sizes = {"embed_dim": 2**20, "hidden_dim": 2**24, "num_heads": 1, "max_positions": 8}
    model = ModelSettings.model_validate({"bert": sizes})
    with pytest.raises(ValueError, match=r"model: weights of these sizes take [\d,]+ bytes"):
        load_supernet(model, task(), seed=0)


def test_blocks_without_number_are_refused_before_they_are_made(tmp_path: Path) -> None:
    make("resnet-basic").save_pretrained(tmp_path)
    break_config(tmp_path, depths=[1000] * 1000, hidden_sizes=[8] * 1000)
    with pytest.raises(CheckpointError, match=r"1,000,000 blocks; a network has at most 1000"):
        load(tmp_path)


def test_missing_weights_are_told_before_a_network_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make("bert").save_pretrained(tmp_path)
    break_config(tmp_path, num_hidden_layers=300)

    def never(*_: object) -> None:
        raise AssertionError("weights of 300 blocks were made")

    monkeypatch.setattr("supernets.load.initialise", never)
    with pytest.raises(CheckpointError, match="no weights for"):
        load(tmp_path)


def test_a_classifier_that_is_a_number_is_one_line(tmp_path: Path) -> None:
    make("bert").save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    save_file({**tensors, "classifier.bias": torch.tensor(0.5)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"no classifier for .* labels in classifier\.bias"):
        load(tmp_path)


@pytest.mark.parametrize("value", ["16", True, [2], {"a": 1}, -1, float("nan"), None])
@pytest.mark.parametrize("model_type", sorted(model_types()))
def test_values_of_another_type_are_refused_or_read(model_type: str, value: object) -> None:
    config = {"model_type": model_type}
    for field in hugging_face(model_types()[model_type]).fields.values():
        with suppress(CheckpointError):
            read_config({**config, field.theirs: value})
