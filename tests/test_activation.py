"""A dimension whose choices are names: the activation of a vision transformer, block by block."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import product
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import yaml
from torch import nn
from transformers import ViTConfig as TheirConfig
from transformers import ViTForImageClassification

from hardware.formats.fp32 import FP32
from hardware.formats.int8 import INT8
from hardware.formats.policy import QuantPolicy
from hardware.formats.scheme import QuantScheme
from hardware.graph.template import Template
from hardware.session import open_session, predict
from hardware.target import Target
from hardware.writing.activation_ranges import rounding_of
from hardware.writing.calibrate import calibrate
from hardware.writing.materialize import arrays, materialize
from hardware.writing.size import SizeModel
from nas.evaluation.candidate import Candidate
from nas.evaluation.candidate_builder import CandidateBuilder, template_of
from nas.experiment.load import load_experiment
from nas.ledger.study import read_evaluations
from nas.pipeline import run as run_pipeline
from nas.run.run_folder import RunFolder
from supernets.families.image_transformer import ImageSuperNetwork
from supernets.families.super_network import SuperNetwork
from supernets.layers.fake_quantize import fake_quantize
from supernets.load import load_saved, supernet
from supernets.pretrained.checkpoint import open_checkpoint
from supernets.pretrained.config_json import export_config
from supernets.pretrained.weights import read_weights
from supernets.settings import SpaceSettings
from supernets.space.space import SearchSpace
from supernets.tasks.classification import Classification
from tests import sample_supernets as families
from tests.conftest import FEW, TINY
from tests.test_pipeline import Silent

BOTH = SpaceSettings.model_validate({"activation": ["gelu", "relu"], "depth": [1, 2, 3]})
PLACES = [f"blocks.{index}.mlp.activation" for index in range(families.VIT.depth)]
SCHEMES = [QuantScheme(), QuantScheme(linear="static"), QuantScheme(int4_kernel="matmulnbits")]


@pytest.fixture(scope="module")
def network() -> SuperNetwork:
    return families.build(families.VIT)


@pytest.fixture(scope="module")
def space(network: SuperNetwork) -> SearchSpace:
    return network.space(BOTH)


@pytest.fixture(scope="module")
def template(network: SuperNetwork, space: SearchSpace) -> Template:
    return template_of(network, space)


def run(content: bytes, feed: Mapping[str, np.ndarray]) -> np.ndarray:
    return predict(open_session(content, Target()), [dict(feed)])


def test_the_space_has_the_choice_where_it_is_asked_for(
    network: SuperNetwork, space: SearchSpace
) -> None:
    assert space.named_choices == dict.fromkeys(PLACES, ("relu", "gelu"))
    assert network.space(SpaceSettings()).named_choices == {}
    assert SearchSpace.from_json(space.to_json()) == space
    assert set(PLACES) <= space.split(space.largest())[0].keys()
    dropped = space.split(space.smallest())[0].keys()
    assert set(PLACES) & dropped == {PLACES[0]}, "a block that is left out has no activation"


@pytest.mark.parametrize("chosen", list(product(("relu", "gelu"), repeat=3)))
def test_active_extracted_and_exported_compute_the_same(
    network: SuperNetwork, template: Template, chosen: tuple[str, ...]
) -> None:
    architecture = dict(zip(PLACES, chosen, strict=True))
    network.activate(architecture)
    inputs = families.batch(network).inputs
    with torch.no_grad():
        expected = network(**inputs)
        plain = network.extract()
        torch.testing.assert_close(plain(**inputs), expected)
        network.activate({})
        if set(chosen) != {"gelu"}:
            assert (network(**inputs) - expected).abs().max() > 1e-3, "the choice has no effect"
    kinds = {"relu": nn.ReLU, "gelu": nn.GELU}
    for path, name in architecture.items():
        assert isinstance(plain.get_submodule(path), kinds[name])
    weights = arrays(plain.state_dict())
    cut = template.chosen(architecture)
    model = materialize(cut, weights, QuantPolicy({}), QuantScheme())
    operators = [node.op_type for node in model.graph.node]
    assert operators.count("Relu") == chosen.count("relu")
    assert operators.count("Erf") == chosen.count("gelu")
    feed = {name: tensor.numpy() for name, tensor in inputs.items()}
    found = run(model.SerializeToString(), feed)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_sizes_and_twins_of_candidates(
    network: SuperNetwork, space: SearchSpace, template: Template, scheme: QuantScheme
) -> None:
    batch = families.batch(network)
    feed = {name: tensor.numpy() for name, tensor in batch.inputs.items()}
    builder = CandidateBuilder(network, space, template, scheme, [batch])
    genomes = np.stack([space.smallest(), *space.sample(11, np.random.default_rng(0))])
    cost = network.cost(space, genomes)
    names = [layer.name for layer in cost.layers]
    features = cost.out_features, cost.in_features, cost.formats
    predicted = SizeModel(template, scheme).file_bytes(names, *features, cost.choices)
    written = []
    for genome in genomes:
        candidate = Candidate.from_genome(space, genome)
        built = builder.build(candidate)
        written.append(len(built.content))
        with torch.no_grad():
            imitated = builder.imitation(candidate, None)(**batch.inputs).numpy()
        np.testing.assert_allclose(run(built.content, feed), imitated, atol=0.03, rtol=0.02)
    assert np.array_equal(predicted, written)
    wrong = SizeModel(template, scheme).file_bytes(names, *features)
    assert not np.array_equal(wrong, written), "sizes do not depend on the choice"


def test_static_ranges_are_those_of_the_choice(network: SuperNetwork, template: Template) -> None:
    """What a ReLU puts out has no negative values; what a GELU puts out has some."""
    scheme, batch = QuantScheme(linear="static"), families.batch(network)
    feed = {name: tensor.numpy() for name, tensor in batch.inputs.items()}
    lows = {}
    for name in ("relu", "gelu"):
        network.activate(dict.fromkeys(PLACES, name))
        plain = network.extract()
        weights, cut = arrays(plain.state_dict()), template.chosen(dict.fromkeys(PLACES, name))
        ranges = calibrate(cut, weights, scheme, [feed])
        policy = QuantPolicy({"blocks.1.mlp.fc2": INT8})
        where = rounding_of(cut, weights, policy, scheme, ranges)
        lows[name] = where.inputs["blocks.1.mlp.fc2"][0]
        twin = fake_quantize(plain, policy, scheme, where.inputs, where.outputs)
        found = run(materialize(cut, weights, policy, scheme, ranges).SerializeToString(), feed)
        with torch.no_grad():
            np.testing.assert_allclose(found, twin(**batch.inputs).numpy(), atol=1e-3)
    assert lows["relu"] == 0
    assert lows["gelu"] < 0


def test_all_relu_is_transformers_own(tmp_path: Path) -> None:
    names = ["a", "b", "c"]
    config = TheirConfig(**export_config(families.VIT, {}, Classification(names)))
    ViTForImageClassification(config).save_pretrained(tmp_path)
    network = supernet(families.VIT, len(names)).eval()
    task = Classification(names)
    tensors, _ = read_weights(network, open_checkpoint(str(tmp_path)), task, "auto")
    network.load_state_dict(tensors)
    chosen = dict.fromkeys(PLACES, "relu")
    config = TheirConfig(**export_config(families.VIT, chosen, Classification(names)))
    theirs = ViTForImageClassification.from_pretrained(tmp_path, config=config).eval()
    assert theirs.config.hidden_act == "relu"
    network.activate(chosen)
    inputs = families.batch(network).inputs
    with torch.no_grad():
        expected = theirs(**inputs).logits
        torch.testing.assert_close(network(**inputs), expected, atol=1e-5, rtol=1e-5)


def test_config_json_says_what_it_can() -> None:
    def described(architecture: Mapping[str, str]) -> Mapping[str, object]:
        return export_config(families.VIT, architecture, Classification(["a", "b"]))

    assert described({})["hidden_act"] == "gelu"
    assert described(dict.fromkeys(PLACES[:2], "relu"))["hidden_act"] == "relu"
    mixed = dict(zip(PLACES, ("relu", "gelu", "relu"), strict=True))
    assert described(mixed)["hidden_act"] == "gelu"
    assert described(mixed)["simqnas_architecture"] == mixed


def test_a_template_comes_back_with_its_alternatives(template: Template, tmp_path: Path) -> None:
    template.save(tmp_path / "template.onnx")
    again = Template.load(tmp_path / "template.onnx")
    assert again.alternatives == template.alternatives
    assert again.model == template.model


def test_a_super_network_is_saved_with_its_own_choice(
    network: SuperNetwork, space: SearchSpace, tmp_path: Path
) -> None:
    network.activate(dict.fromkeys(PLACES, "relu"))
    network.save(tmp_path, space)
    again = load_saved(tmp_path)
    assert isinstance(again, ImageSuperNetwork)
    network.activate({})
    inputs = families.batch(network).inputs
    with torch.no_grad():
        assert torch.equal(again(**inputs), network.eval()(**inputs))


def test_a_run_searches_and_ships_choices(tmp_path: Path) -> None:
    """Tune, search, validate and export; what is shipped has the operators that it says."""
    space = {"activation": ["relu", "gelu"], "depth": [2], "num_heads": [4], "hidden_dim": [64]}
    model = TINY["model"] | {"training": {"epochs": 2, "batch_size": 128}}  # type: ignore[operator]
    search = {"evaluations": 8, "round_size": 4, "generations": 4}
    sections = {"model": model, "space": space, "tune": {"epochs": 1}, "search": search}
    sections |= {"data": FEW, "export": {"models": 2}}
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump({**TINY, **sections}))
    folder = RunFolder(tmp_path / "out")
    experiment = load_experiment(file)
    front = run_pipeline(experiment, folder, Silent())
    tried = [dict(e.candidate.architecture) for e in read_evaluations(experiment, folder)]
    assert {architecture[PLACES[0]] for architecture in tried} == {"relu", "gelu"}
    for shipped in front.models:
        path = folder.model(shipped.name)
        operators = [node.op_type for node in onnx.load(path / "model.onnx").graph.node]
        described = json.loads((path / "config.json").read_text())
        chosen = [described["simqnas_architecture"][place] for place in PLACES[:2]]
        assert (operators.count("Relu"), operators.count("Erf")) == (
            chosen.count("relu"),
            chosen.count("gelu"),
        )
        assert described["hidden_act"] == (chosen[0] if len(set(chosen)) == 1 else "gelu")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["gelu", "silu"], "space.activation: 'silu' is no choice; give some of relu, gelu"),
        ([0.5, "gelu"], "space.activation: 0.5 is no choice; give some of relu, gelu"),
        (["relu"], "space.activation: 'gelu', the network's own, must be one of them; add it"),
    ],
)
def test_values_that_are_no_choice(
    network: SuperNetwork, values: list[object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        network.space(SpaceSettings.model_validate({"activation": values}))


def test_names_are_no_sizes_and_other_families_have_no_choice(network: SuperNetwork) -> None:
    with pytest.raises(ValueError, match=r"space.depth: 'gelu' is no size; give whole numbers"):
        network.space(SpaceSettings.model_validate({"depth": ["gelu"]}))
    with pytest.raises(ValueError, match=r"space.activation: a bert network has no such dimension"):
        families.build(families.BERT).space(BOTH)


def test_uniform_precision_of_the_largest_keeps_the_networks_own(
    network: SuperNetwork, space: SearchSpace, template: Template
) -> None:
    builder = CandidateBuilder(network, space, template, QuantScheme(), [families.batch(network)])
    operators = [
        node.op_type for node in builder.model(builder.uniform(space.largest(), FP32)).graph.node
    ]
    assert operators.count("Erf") == families.VIT.depth
    assert "Relu" not in operators
