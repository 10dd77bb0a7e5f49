"""What every family promises about transformers; a family joins with a line of `family_models`."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from supernets.families.registry import FAMILIES, family, model_types
from supernets.families.sizes import Sizes
from supernets.families.super_network import SuperNetwork
from supernets.families.texts.transformer import TextSuperNetwork
from supernets.load import supernet
from supernets.pretrained.config_json import export_config, hugging_face, read_config
from supernets.settings import SpaceSettings
from supernets.tasks.classification import Classification
from tests.family_models import (
    BACKBONES,
    MODELS,
    config_of,
    described,
    disturbed,
    inputs_for,
    make,
    one_per_family,
)
from tests.sample_supernets import CASES, batch, build
from tests.test_checkpoints_hf import NAMES, load


def test_every_family_has_a_model_here() -> None:
    assert one_per_family().keys() == FAMILIES.keys()
    kinds = {make(name).config.model_type for name in MODELS}
    kinds |= {made().config.model_type for made, _ in BACKBONES.values()}
    assert kinds == model_types().keys()
    assert all(family(name).sizes.model_validate({}).family == name for name in FAMILIES)


@pytest.mark.parametrize("name", MODELS)
def test_largest_network_gives_transformers_logits(name: str, tmp_path: Path) -> None:
    model = make(name)
    model.save_pretrained(tmp_path)
    start = load(tmp_path)
    inputs = inputs_for(start.network)
    with torch.no_grad():
        expected = model(**inputs).logits
        torch.testing.assert_close(start.network(**inputs), expected, atol=1e-5, rtol=1e-5)
        deployed = start.network.deploy()(**inputs)
    torch.testing.assert_close(deployed, expected, atol=1e-5, rtol=1e-5)
    assert start.notes == ()


@pytest.mark.parametrize("image_size", [16, 24, 12])
@pytest.mark.parametrize("name", BACKBONES)
def test_a_backbone_gives_transformers_features_at_any_resolution(
    name: str, image_size: int, tmp_path: Path
) -> None:
    made, read = BACKBONES[name]
    model = disturbed(made)
    model.save_pretrained(tmp_path)
    start = load(tmp_path, size=image_size)
    pixels = torch.randn(2, 3, image_size, image_size)
    wanted = "interpolate_pos_encoding" in inspect.signature(model.forward).parameters
    options = {"interpolate_pos_encoding": True} if wanted else {}
    with torch.no_grad():
        expected = read(model(pixels, **options))
        found = start.network.features(pixels)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert start.notes[0] == "model.checkpoint: a new classifier is trained"


@pytest.mark.parametrize("name", MODELS)
def test_names_and_sizes_there_and_back(name: str) -> None:
    config, model = config_of(name), make(name)
    assert read_config(export_config(config, {}, Classification(NAMES))) == config
    known = hugging_face(config.family)
    theirs = known.renaming(supernet(config, 5).state_dict())
    assert len(set(theirs.values())) == len(theirs)
    prefix = known.variant_of(config).prefix
    state = {known.spelled_anew(n.removeprefix(prefix)): t for n, t in model.state_dict().items()}
    heads = {f"{h}.{k}" for h in known.variant_of(config).heads for k in ("weight", "bias")}
    assert known.prepare(state, config, config).keys() == {*theirs.values(), *heads}


def numbered_as(network: SuperNetwork, key: str) -> str:
    """A sub-network's tensor as the full network calls it, where blocks have one row of numbers."""
    kept = [network.block_path(gene, i) for gene, run in network.active.items() for i in run]
    numbers = [path.removeprefix("blocks.") for path in kept]
    if not all(map(str.isdigit, numbers)):
        return key
    return re.sub(r"(?<!head)\.(\d+)\.", lambda found: f".{numbers[int(found[1])]}.", key, count=1)


def cut(tensor: Tensor, shape: Sequence[int], parts: int) -> Tensor:
    """The first rows and columns; of several matrices in one, the first rows of each."""
    if parts > 1:
        tensor = torch.cat([part[: shape[0] // parts] for part in tensor.chunk(parts)])
    return tensor[tuple(map(slice, shape))]


@pytest.mark.parametrize("name", MODELS)
def test_sub_network_equals_the_transformers_model_that_config_json_describes(
    name: str, tmp_path: Path
) -> None:
    """Where its fields can: with fewer blocks and neurons, the first of the checkpoint's."""
    model = make(name)
    model.save_pretrained(tmp_path)
    network = load(tmp_path).network
    genes = network.space(SpaceSettings()).genes
    sizes = {g.name: g.choices[0] for g in genes if g.name.endswith(("depth", ".hidden_dim"))}
    if network.config.shrunk(sizes) == network.config:
        sizes = {}
    network.activate(sizes)
    config = export_config(network.config, sizes, Classification(NAMES))
    (tmp_path / "config.json").write_text(json.dumps(config))
    small = described(tmp_path)
    large = model.state_dict()
    with torch.no_grad():
        for key, tensor in small.state_dict().items():
            parts = 2 if ".mlp.Wi." in key else 1
            tensor.copy_(cut(large[numbered_as(network, key)], tensor.shape, parts))
        inputs = inputs_for(network)
        torch.testing.assert_close(network(**inputs), small(**inputs).logits, atol=1e-5, rtol=1e-5)
    assert small.config.id2label == dict(enumerate(NAMES))


@pytest.mark.parametrize(("config", "settings"), CASES)
def test_what_is_not_active_gets_no_gradient(config: Sizes, settings: SpaceSettings) -> None:
    network = build(config)
    space = network.space(settings)
    architecture = space.split(space.smallest())[0]
    network.activate({**architecture, "resolution": getattr(config, "image_size", 0)})
    sample = batch(network)
    inputs = network.adapt_inputs(sample.inputs)
    torch.nn.functional.cross_entropy(network(**inputs), sample.labels).backward()
    plain = dict(network.extract().named_parameters())
    for name, parameter in network.named_parameters():
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
        if isinstance(network, TextSuperNetwork) and name == "embeddings.word.weight":
            word = network.embeddings.word
            gradient[word.order[: word.active_out]] = 0
        elif name in plain:
            active = gradient[tuple(map(slice, plain[name].shape))]
            active.zero_()
        assert not gradient.any(), name


@pytest.mark.parametrize("name", ["vit", "dinov2", "swin", "convnext"])
def test_large_gains_of_the_last_norm_make_no_surer_answers_of_a_new_classifier(
    name: str, tmp_path: Path
) -> None:
    model = make(name)
    norm = [module for module in model.modules() if isinstance(module, torch.nn.LayerNorm)][-1]
    answers = []
    for gain in (2, 4):
        with torch.no_grad():
            norm.weight.mul_(gain)
            norm.bias.mul_(gain)
        model.save_pretrained(tmp_path / str(gain))
        network = load(tmp_path / str(gain), head="new").network
        answers.append(network(**inputs_for(network)))
    assert float(answers[0].detach().std()) > 0.05
    torch.testing.assert_close(answers[0], answers[1], atol=1e-5, rtol=1e-5)
