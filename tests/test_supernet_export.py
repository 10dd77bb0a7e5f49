"""All families through the ONNX template: any sub-network computes what torch computes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from _pytest.mark import ParameterSet
from torch import Tensor

from hardware.formats.fp32 import FP32
from hardware.formats.policy import QuantPolicy
from hardware.formats.scheme import QuantScheme
from hardware.session import open_session, predict
from hardware.target import Target
from hardware.writing.activation_ranges import rounding_of
from hardware.writing.calibrate import calibrate
from hardware.writing.materialize import arrays, materialize
from hardware.writing.size import SizeModel
from nas.evaluation import candidate_builder
from nas.evaluation.candidate_builder import template_of
from supernets.families.registry import family
from supernets.families.sizes import Sizes
from supernets.layers.fake_quantize import fake_quantize
from supernets.load import supernet
from supernets.settings import SpaceSettings
from supernets.training.order_by_importance import order_by_importance
from tests import sample_supernets as families
from tests.family_models import config_of

SCHEME = QuantScheme()


def logits(model: onnx.ModelProto, inputs: Mapping[str, Tensor]) -> np.ndarray:
    arrays_ = {name: tensor.numpy() for name, tensor in inputs.items()}
    return predict(open_session(model.SerializeToString(), Target()), [arrays_])


def spread(model: onnx.ModelProto, inputs: Mapping[str, Tensor], found: np.ndarray) -> float:
    """How far the runtime's own optimizations move the logits."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    plain = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})[0]
    return float(np.abs(plain - found).max())


HEADERS = 16
"""Bytes."""
MANY = 30
"""Layers over which one rounding of a tie grows to more than the tolerance."""
CASES = [
    case
    for case in families.CASES
    if case.id not in ("vit", "vit-width-resolution", "resnet-stem-3")
]
# Its projections are applied to a parameter.
APPLIED = config_of("deberta-own-projections")
CASES.append(pytest.param(APPLIED, SpaceSettings(), id="deberta-own-projections"))
SIBLINGS = {
    "distilbert": "bert",
    "roberta": "bert",
    "deberta-own-projections": "deberta",
    "siglip": "clip",
    "beit3-questions": "beit3-pairs",
    "convnext": "convnextv2",
    "resnet": "resnet-bottleneck",
}
"""Cases that are slow tests -> one that is always run, of the same blocks."""


def with_its_pace(case: ParameterSet) -> ParameterSet:
    """The case, marked if it has a sibling."""
    marks = (pytest.mark.slow,) if case.id in SIBLINGS else ()
    return pytest.param(*case.values, id=case.id, marks=marks)


@pytest.mark.parametrize(("config", "settings"), list(map(with_its_pace, CASES)))
def test_sub_networks_cut_from_the_template(config: Sizes, settings: SpaceSettings) -> None:
    network = families.build(families.with_two_blocks(config))
    order_by_importance(network, [families.batch(network)])
    space = network.space(settings)
    template = template_of(network, space)
    assert {(x.name, x.kind) for x in template.layers} == {(x.name, x.kind) for x in network.layers}
    sizes = SizeModel(template, SCHEME)
    for genome in [space.smallest(), *space.sample(1, np.random.default_rng(1))]:
        architecture, policy = space.split(genome)
        network.activate(architecture)
        inputs = network.adapt_inputs(families.batch(network).inputs)
        weights = arrays(network.deploy().state_dict())
        plain = QuantPolicy.uniform(policy, FP32)
        model = materialize(template, weights, plain, SCHEME)
        assert model.opset_import[0].version == family(config.family).least_opset
        expected = network(**inputs).detach().numpy()
        np.testing.assert_allclose(logits(model, inputs), expected, atol=1e-5, rtol=1e-5)
        policy = QuantPolicy(policy)
        feed = {name: tensor.numpy() for name, tensor in inputs.items()}
        ranges = calibrate(template, weights, SCHEME, [feed])
        model = materialize(template, weights, policy, SCHEME, ranges)
        where = rounding_of(template, weights, policy, SCHEME, ranges)
        twin = fake_quantize(network.deploy(), policy, SCHEME, where.inputs, where.outputs)
        with torch.no_grad():
            imitated = twin(**inputs).numpy()
        found = logits(model, inputs)
        allowed = 0.03 + (2 * spread(model, inputs, found) if len(network.layers) > MANY else 0)
        np.testing.assert_allclose(found, imitated, atol=allowed, rtol=0.02)
        cost = network.cost(space, genome[None])
        names = [layer.name for layer in cost.layers]
        features = cost.out_features, cost.in_features, cost.formats
        predicted = sizes.file_bytes(names, *features)[0] - 4 * cost.narrowed_parameters[0]
        # Of a norm that is narrower too, the digits of its size are counted at full width.
        allowed = HEADERS if cost.narrowed_parameters[0] else 0
        assert abs(predicted - len(model.SerializeToString())) <= allowed


def test_a_graph_is_exported_once_for_all_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """And anew for whatever else it follows from: sizes, labels, what is read, open choices."""
    asked: list[tuple[str, ...]] = []

    def export(*_: object, outputs: tuple[str, ...], **__: object) -> object:
        asked.append(outputs)
        return object()

    monkeypatch.setattr(candidate_builder, "_EXPORTED", {})
    monkeypatch.setattr(candidate_builder, "export_template", export)
    plain = SpaceSettings()
    several = SpaceSettings.model_validate({"activation": ["gelu", "relu"]})
    wider = families.BERT.model_copy(update={"hidden_dim": 32})
    cases = [
        (supernet(families.BERT, 5), plain),
        (supernet(families.BERT, 6), plain),
        (supernet(families.BERT, 5, "tokens"), plain),
        (supernet(families.BERT, 5, "mean"), plain),
        (supernet(wider, 5), plain),
        (supernet(families.VIT, 5), plain),
        (supernet(families.VIT, 5), several),
        (supernet(families.VIT, 5), families.ELASTIC),
    ]
    found = [template_of(network, network.space(settings)) for network, settings in cases]
    assert len(asked) == len(set(map(id, found))) == len(cases)
    again = families.build(families.BERT)
    assert template_of(again, again.space(SpaceSettings(depth=(1, 3)))) is found[0]
    assert len(asked) == len(cases)
