"""Numbers of any scale: learnt alike, saved, and exported as torch computes them."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch import Tensor

from hardware.formats.int8 import INT8
from hardware.formats.registry import find_format
from hardware.formats.scheme import QuantScheme
from hardware.session import open_session, predict
from hardware.target import Target
from nas.evaluation.candidate_builder import CandidateBuilder, template_of
from supernets.data.data import Split
from supernets.data.images import ImageSplit
from supernets.data.targets.numbers import read_numbers
from supernets.data.targets.tell_task import tell_task
from supernets.data.text import TextSplit
from supernets.families.bert.config import BertConfig
from supernets.families.resnet.config import ResNetConfig
from supernets.families.sizes import Sizes
from supernets.families.super_network import SuperNetwork
from supernets.layers.elastic import ElasticLinear, ElasticScaledLinear
from supernets.load import load_data, load_saved, supernet
from supernets.model_settings import ModelSettings
from supernets.pretrained.weights import initialise
from supernets.settings import DataSettings, PolishSettings, SpaceSettings, TuneSettings
from supernets.tasks.regression import Regression
from supernets.tasks.scale import UNSCALED, Scale
from supernets.training.tune import InstaTuner, Polisher

BERT = BertConfig(embed_dim=16, depth=2, num_heads=2, hidden_dim=16, vocab_size=512)
RESNET = ResNetConfig(
    image_size=16, depths=(2, 2), stage_widths=(8, 16), inner_widths=(8, 16), stem_width=8
)
OF = {"bert": (BERT, "pydoc"), "resnet": (RESNET, "digits")}
NARROW = SpaceSettings.model_validate({"stage_width": [0.5, 1.0]})
SCHEME = QuantScheme().with_linear("dynamic").with_int4_kernel("w4a8")
SCALES = [Scale(72_000.0, 31_000.0), Scale(-3e-6, 2e-7), Scale(1.7e9, 4e6)]


def numbers_of(kind: str, scale: Scale) -> Split:
    """Samples whose class numbers, in this scale, are to be told."""
    config, name = OF[kind]
    settings = DataSettings(name=name, max_train=160, max_length=None if name == "digits" else 16)
    split = load_data(settings, ModelSettings.from_scratch(config)).train
    assert isinstance(split, (ImageSplit, TextSplit))
    assert isinstance(split.labels, Tensor)
    counted = (split.labels.double() - 4) / 3
    numbers = (counted * scale.unit + scale.center).float()
    return replace(split, labels=numbers, task=Regression(scale=scale))


def fresh(config: Sizes, scale: Scale | None) -> SuperNetwork:
    network = supernet(config, 1)
    initialise(network, torch.Generator().manual_seed(0))
    if scale is not None:
        network.use_scale(scale, converted=False)
    return network.eval()


@torch.no_grad()
def answers(network: SuperNetwork, split: Split) -> Tensor:
    found: Tensor = network.eval()(**next(split.batches(len(split))).inputs)[:, 0].double()
    return found


def trained(kind: str, scale: Scale) -> tuple[Tensor, Tensor]:
    """What a tuned network answers, in units of the scale; so does a polished sub-network."""
    split, network = numbers_of(kind, scale), fresh(OF[kind][0], scale)
    space = network.space(SpaceSettings())
    tune = TuneSettings(epochs=2, batch_size=32, learning_rate=3e-3)
    InstaTuner(network, space, split, tune, seed=5).run()
    tuned, teacher = scale.counted(answers(network, split)), deepcopy(network)
    polish = PolishSettings(epochs=1, batch_size=32, learning_rate=3e-3)
    architecture, policy = dict(space.split(space.smallest())[0]), {"head": INT8}
    Polisher(network, teacher, architecture, policy, split, polish, 0, SCHEME).run()
    network.activate(architecture)
    return tuned, scale.counted(answers(network, split))


@pytest.mark.parametrize("kind", OF)
def test_numbers_are_learnt_alike_in_any_scale(kind: str) -> None:
    """Up to what single precision tells apart: 128 in 1.7e9."""
    expected = trained(kind, UNSCALED)
    assert float(expected[0].std()) > 0.02, "answers differ"
    for scale in SCALES:
        for found, wanted in zip(trained(kind, scale), expected, strict=True):
            torch.testing.assert_close(found, wanted, atol=2e-2, rtol=0)


def test_the_scale_is_that_of_the_training_targets() -> None:
    targets = np.array([3.0, 5.0, 10.0])
    assert Regression.options_from(targets)["scale"] == (6.0, pytest.approx(np.std([3, 5, 10])))
    assert Regression.options_from(np.full(5, 0.1))["scale"] == (pytest.approx(0.1), 1.0)
    assert Regression.options_from(np.zeros(5))["scale"] == (0.0, 1.0)


def test_the_loss_is_in_units_of_the_scale() -> None:
    scale = Scale(100.0, 20.0)
    asked = Regression(scale=scale)
    outputs, numbers = torch.tensor([[110.0], [60.0]]), torch.tensor([100.0, 100.0])
    loss = asked.loss(TuneSettings(), numbers, 1)(outputs, numbers)
    assert float(loss) == pytest.approx((0.5**2 + 2.0**2) / 2)
    teacher = torch.tensor([[100.0], [100.0]])
    assert float(asked.distillation(outputs, teacher, 3.0)) == pytest.approx(float(loss))


def test_a_head_that_gave_numbers_gives_them_still() -> None:
    head, x = ElasticLinear(8, 1), torch.randn(5, 8)
    expected = head(x)
    counting = ElasticScaledLinear.of(head, Scale(3.0, 7.0))
    assert not torch.allclose(counting(x), expected)
    counting.convert()
    torch.testing.assert_close(counting(x), expected)
    torch.testing.assert_close(counting.extract()(x), expected)


@pytest.mark.parametrize("kind", OF)
def test_a_saved_network_counts_as_before(kind: str, tmp_path: Path) -> None:
    split = numbers_of(kind, SCALES[0])
    for scale in (SCALES[0], None):
        network = fresh(OF[kind][0], scale)
        network.save(tmp_path, network.space(SpaceSettings()))
        again = load_saved(tmp_path)
        assert again.scale == scale
        assert torch.equal(answers(again, split), answers(network, split))


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4", "int2", "fp16"])
@pytest.mark.parametrize("kind", OF)
def test_sub_networks_answer_in_the_scale_wherever_they_run(kind: str, precision: str) -> None:
    """Also 72,000 in half precision, which has no numbers beyond 65,504. The graph that was
    exported for one scale is not another's."""
    for scale in SCALES[:2]:
        split, network = numbers_of(kind, scale), fresh(OF[kind][0], scale)
        space = network.space(NARROW if kind == "resnet" else SpaceSettings())
        batch = next(split.batches(32))
        builder = CandidateBuilder(network, space, template_of(network, space), SCHEME, [batch])
        candidate = builder.uniform(space.smallest(), find_format(precision))
        session = open_session(builder.model(candidate).SerializeToString(), Target())
        found = predict(session, [builder.inputs(candidate, batch.inputs)])
        with torch.no_grad():
            imitated = builder.imitation(candidate, None)(
                **builder.adapted(candidate, batch.inputs)
            )
        counted = scale.counted(torch.from_numpy(found).double())
        torch.testing.assert_close(counted, scale.counted(imitated.double()), atol=0.02, rtol=0.02)
        assert float(counted.std()) > 0.01, "answers differ"


def column(values: list[Any]) -> Dataset:
    texts = [f"text {number}" for number in range(len(values))]
    return Dataset.from_dict({"text": texts, "price": values})


@pytest.mark.parametrize(
    ("values", "task"),
    [
        ([1000 + 7 * i for i in range(60)], "regression"),
        ([str(1000 + 7 * i) for i in range(60)], "regression"),
        ([i / 7 for i in range(60)], "regression"),
        ([i % 30 for i in range(60)], "classification"),
        ([i / 2 % 5 for i in range(60)], "classification"),
        ([float("nan") if i % 3 else float(i % 2) for i in range(90)], "classification"),
        ([f"row {i}" for i in range(60)], "classification"),
        (list(range(20)), "classification"),
    ],
)
def test_numbers_that_cannot_be_classes_are_amounts(values: list[Any], task: str) -> None:
    assert tell_task(column(values), ["price"], None, pair=False) == task


def test_numbers_beyond_single_precision_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'price' holds 1e\+39, which is beyond"):
        read_numbers({"train": column([1.0, 1e39])}, ["price"])
