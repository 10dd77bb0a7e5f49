"""Names and files of checkpoints as people have them: every tensor is transformers'."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoConfig

from supernets.families.hugging_face import CheckpointError
from supernets.families.super_network import SuperNetwork
from supernets.pretrained.config_json import hugging_face
from tests.family_models import MODELS, make, one_per_family
from tests.test_checkpoints_hf import load

Names = Callable[[str], str]
WEIGHTS = "model.safetensors"


def respell(folder: Path, spelled: Names) -> dict[str, Tensor]:
    """Rename every tensor of a saved model; gives them."""
    tensors = {spelled(name): t for name, t in load_file(folder / WEIGHTS).items()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    return tensors


def assert_equals_transformers(network: SuperNetwork, state: Mapping[str, Tensor]) -> None:
    """Compare every tensor but the classifier with those of a transformers model."""
    config = network.config
    known = hugging_face(config.family)
    prefix = re.compile("|".join(f"^{re.escape(variant.prefix)}" for variant in known.variants))
    plain = {known.spelled_anew(prefix.sub("", name, count=1)): t for name, t in state.items()}
    theirs, ours = known.prepare(plain, config, config), network.state_dict()
    renaming = known.renaming(name for name in ours if not name.startswith("head."))
    assert len(renaming) == len(ours) - 2
    for name, other in renaming.items():
        assert torch.equal(ours[name].float(), theirs[other].float()), name


def gamma_and_beta(name: str) -> str:
    name = name.replace("LayerNorm.weight", "LayerNorm.gamma")
    return name.replace("LayerNorm.bias", "LayerNorm.beta")


def bare(name: str) -> str:
    names = "vit|deit|dinov2|dinov2_with_registers|bert|distilbert|resnet|roberta|electra"
    return re.sub(rf"^({names}|data2vec_text)\.", "", name)


SPELLINGS: dict[str, Names] = {
    "as saved": str,
    "no prefix": bare,
    "gamma and beta": gamma_and_beta,
    "gamma and beta, no prefix": lambda name: bare(gamma_and_beta(name)),
}
WRAPPED: dict[str, Names] = {
    "DataParallel": lambda name: f"module.{name}",
    "torch.compile": lambda name: f"_orig_mod.{name}",
    "a trainer": lambda name: f"model.{name}",
    "a compiled trainer": lambda name: f"model._orig_mod.{name}",
}


ONE_BY_ONE = ("no prefix", "gamma and beta")
"""Spellings that are slow tests where another has both."""

ALL_SPELLINGS = [
    pytest.param(name, spelling, marks=(pytest.mark.slow,) if spelling in ONE_BY_ONE else ())
    for name in one_per_family().values()
    for spelling in SPELLINGS
    if spelling != "as saved"
]


@pytest.mark.parametrize(
    ("name", "spelling"), [*((name, "as saved") for name in MODELS), *ALL_SPELLINGS]
)
def test_every_tensor_is_what_transformers_loads(name: str, spelling: str, tmp_path: Path) -> None:
    model = make(name)
    model.save_pretrained(tmp_path)
    respell(tmp_path, SPELLINGS[spelling])
    theirs = type(model).from_pretrained(tmp_path)
    assert_equals_transformers(load(tmp_path).network, theirs.state_dict())
    assert_equals_transformers(load(tmp_path).network, model.state_dict())


@pytest.mark.parametrize("wrapper", WRAPPED)
@pytest.mark.parametrize("name", ["vit", "bert", "resnet-basic"])
def test_wrapped_names_are_unwrapped(name: str, wrapper: str, tmp_path: Path) -> None:
    model = make(name)
    model.save_pretrained(tmp_path)
    respell(tmp_path, WRAPPED[wrapper])
    assert_equals_transformers(load(tmp_path).network, model.state_dict())


@pytest.mark.parametrize("name", MODELS)
def test_names_as_transformers_has_them_in_memory(name: str, tmp_path: Path) -> None:
    model = make(name)
    model.save_pretrained(tmp_path)
    save_file({n: t.contiguous() for n, t in model.state_dict().items()}, tmp_path / WEIGHTS)
    assert_equals_transformers(load(tmp_path).network, model.state_dict())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", ["bert", "xlm-roberta"])  # where two tensors become one
def test_other_floats_load(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    model = make(name)
    model.save_pretrained(tmp_path)
    tensors = {n: t.to(dtype) for n, t in load_file(tmp_path / WEIGHTS).items()}
    save_file(tensors, tmp_path / WEIGHTS)
    in_single = {name: tensor.float() for name, tensor in tensors.items()}
    assert_equals_transformers(load(tmp_path).network, in_single)


def test_a_pretraining_checkpoint_as_the_hub_has_it(tmp_path: Path) -> None:
    """Heads of pretraining under `cls.`, a buffer of positions, gamma and beta."""
    model = make("bert")
    model.save_pretrained(tmp_path)
    tensors = respell(tmp_path, gamma_and_beta)
    kept = {n: t for n, t in tensors.items() if not n.startswith("classifier.")}
    others = {
        "cls.predictions.bias": torch.zeros(50),
        "cls.predictions.transform.LayerNorm.gamma": torch.ones(16),
        "cls.seq_relationship.weight": torch.zeros(2, 16),
        "bert.embeddings.position_ids": torch.arange(20)[None],
    }
    save_file({**kept, **others}, tmp_path / WEIGHTS)
    start = load(tmp_path)
    assert_equals_transformers(start.network, model.state_dict())
    assert "a new classifier is trained" in start.notes[0]
    assert "4 tensors are not needed, such as cls.predictions.bias" in start.notes[1]


def test_fields_missing_from_config_json_have_transformers_defaults(tmp_path: Path) -> None:
    model = make("deit")
    model.save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    config = json.loads(file.read_text())
    for key in ("num_channels", "qkv_bias", "layer_norm_eps", "hidden_act"):
        config.pop(key, None)
    file.write_text(json.dumps(config))
    read = AutoConfig.from_pretrained(tmp_path)
    network = load(tmp_path).network
    sizes: Any = network.config
    assert sizes.layer_norm_eps == read.layer_norm_eps
    assert_equals_transformers(network, model.state_dict())


# Which file


@pytest.mark.parametrize(
    "other", ["model.fp16.safetensors", "a.safetensors", "model.safetensors.index.json"]
)
def test_model_safetensors_is_taken_whatever_lies_beside_it(other: str, tmp_path: Path) -> None:
    model = make("bert")
    model.save_pretrained(tmp_path)
    (tmp_path / other).write_bytes(b"not read")
    assert_equals_transformers(load(tmp_path).network, model.state_dict())


@pytest.mark.parametrize("name", ["model.fp16.safetensors", "pytorch_model.safetensors"])
def test_a_single_file_of_another_name_is_taken(name: str, tmp_path: Path) -> None:
    model = make("bert")
    model.save_pretrained(tmp_path)
    (tmp_path / WEIGHTS).rename(tmp_path / name)
    assert_equals_transformers(load(tmp_path).network, model.state_dict())


def test_two_files_of_other_names_are_refused(tmp_path: Path) -> None:
    make("bert").save_pretrained(tmp_path)
    (tmp_path / "b.safetensors").write_bytes((tmp_path / WEIGHTS).read_bytes())
    (tmp_path / WEIGHTS).rename(tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=r"found a\.safetensors, b\.safetensors"):
        load(tmp_path)


# What is refused

BEYOND = {
    "squeeze and excitation": ("resnet-basic", "resnet.encoder.stages.0.layers.0.se.fc1.weight"),
    "attention pooling": ("resnet-basic", "resnet.attnpool.q_proj.weight"),
    "LayerScale": ("vit", "vit.encoder.layer.0.layer_scale1.lambda1"),
    "a block more": ("vit", "vit.encoder.layer.3.output.dense.weight"),
    "an adapter": ("bert", "bert.encoder.layer.0.attention.self.query.lora_A.weight"),
    "relative positions": ("bert", "bert.encoder.layer.0.attention.self.distance_embedding.weight"),
    "scales of INT8": ("bert", "bert.encoder.layer.1.output.dense.weight_scale"),
    "an adapter without prefix": ("distilbert", "transformer.layer.0.adapter.down.weight"),
    "a layer before the head": ("vit", "projection.weight"),
}


@pytest.mark.parametrize("case", BEYOND)
def test_tensors_that_compute_something_else_are_refused_by_name(case: str, tmp_path: Path) -> None:
    model, extra = BEYOND[case]
    make(model).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / WEIGHTS)
    save_file({**tensors, extra: torch.ones(3)}, tmp_path / WEIGHTS)
    with pytest.raises(CheckpointError, match=f"computes with 1 tensors.*{re.escape(extra)}"):
        load(tmp_path)


def test_a_head_of_another_task_is_only_noted(tmp_path: Path) -> None:
    make("bert").save_pretrained(tmp_path)
    tensors = load_file(tmp_path / WEIGHTS)
    save_file({**tensors, "ner_head.weight": torch.ones(3, 16)}, tmp_path / WEIGHTS)
    with pytest.raises(CheckpointError, match=r"ner_head\.weight.*set model\.head to new"):
        load(tmp_path)
    notes = load(tmp_path, head="new").notes
    assert any("not needed" in note for note in notes)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.full((24, 16), torch.nan), r"holds 384 values that are not finite"),
        (torch.full((24, 16), 1e300, dtype=torch.float64), "not finite"),
        (torch.ones(24, 16, dtype=torch.int8), "stored as int8"),
        (torch.ones(24, 16).to(torch.float8_e4m3fn), "stored as float8_e4m3fn"),
        (torch.ones(24, 16, dtype=torch.bool), "stored as bool"),
    ],
)
def test_numbers_that_cannot_be_trained_are_refused_by_name(
    value: Tensor, message: str, tmp_path: Path
) -> None:
    make("bert").save_pretrained(tmp_path)
    tensors = load_file(tmp_path / WEIGHTS)
    name = "bert.encoder.layer.1.intermediate.dense.weight"
    save_file({**tensors, name: value}, tmp_path / WEIGHTS)
    with pytest.raises(CheckpointError, match=f"{re.escape(name)}.*{message}"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("model", "changes", "message"),
    [
        ("bert", {"hidden_act": "gelu_new"}, "hidden_act 'gelu_new'"),
        ("bert", {"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ("bert", {"is_decoder": True}, "is_decoder True"),
        ("bert", {"add_cross_attention": True}, "add_cross_attention True"),
        ("bert", {"pruned_heads": {"0": [1]}}, "pruned_heads"),
        ("bert", {"quantization_config": {"quant_method": "gptq"}}, "quantization_config.*give"),
        ("distilbert", {"activation": "relu"}, "activation 'relu'"),
        ("vit", {"image_size": [16, 32]}, r"image_size \[16, 32\]; only squares"),
        ("vit", {"hidden_size": "wide"}, "cannot read config.json"),
        ("resnet-basic", {"layer_type": "wide"}, "layer_type"),
        ("resnet-basic", {"hidden_act": "silu"}, "hidden_act 'silu'"),
    ],
)
def test_fields_that_change_the_computation_are_refused_by_name(
    model: str, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    make(model).save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    with pytest.raises(CheckpointError, match=message):
        load(tmp_path)


@pytest.mark.parametrize("model", ["vit", "deit-distilled", "bert", "resnet-basic"])
@pytest.mark.parametrize("place", range(0, 40, 3))
def test_a_tensor_of_another_shape_is_one_clear_message(
    model: str, place: int, tmp_path: Path
) -> None:
    make(model).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / WEIGHTS)
    floats = sorted(name for name, tensor in tensors.items() if tensor.is_floating_point())
    name = floats[place % len(floats)]
    shape = () if place % 2 else (*tensors[name].shape, 2)
    save_file({**tensors, name: torch.ones(shape)}, tmp_path / WEIGHTS)
    with pytest.raises(
        CheckpointError, match=r"instead of|is not for the|classifier|distillation_token"
    ):
        load(tmp_path)


def test_an_adapter_beside_the_weights_is_refused(tmp_path: Path) -> None:
    make("bert").save_pretrained(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="holds an adapter"):
        load(tmp_path)


def test_a_tensor_given_twice_is_refused(tmp_path: Path) -> None:
    make("bert").save_pretrained(tmp_path)
    tensors = load_file(tmp_path / WEIGHTS)
    name = "bert.embeddings.LayerNorm"
    save_file({**tensors, f"{name}.gamma": tensors[f"{name}.weight"].clone()}, tmp_path / WEIGHTS)
    with pytest.raises(CheckpointError, match="the same tensor by name"):
        load(tmp_path)
