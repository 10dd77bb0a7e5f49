"""What a training moves of large parameters: as if they were trained whole, at less cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from hardware.formats.int4 import INT4
from hardware.formats.scheme import QuantScheme
from supernets.data.text import TextSplit
from supernets.families.bert.config import BertConfig
from supernets.families.super_network import SuperNetwork
from supernets.layers.elastic import ElasticEmbedding
from supernets.load import load_data, load_supernet
from supernets.model_settings import ModelSettings
from supernets.settings import DataSettings, PolishSettings, SpaceSettings, TuneSettings
from supernets.training import trained_parts
from supernets.training.train import Trainer
from supernets.training.tune import InstaTuner, Polisher

SIZES = BertConfig(embed_dim=16, depth=2, num_heads=2, hidden_dim=16, vocab_size=1200)
MODEL = ModelSettings.from_scratch(SIZES)
DATA = load_data(DataSettings(name="pydoc", max_length=12, max_train=300), MODEL)
TEXTS = DATA.train.part(torch.arange(48))
ARCHITECTURE = {"depth": 1, "blocks.0.attention.num_heads": 1, "blocks.0.mlp.hidden_dim": 8}
WORDS = "embeddings.word.weight"
ROWS = len(load_supernet(MODEL, DATA, seed=0).network.state_dict()[WORDS])


def used() -> Tensor:
    """Which rows of the table batches of the training texts look up, that of padding too."""
    assert isinstance(TEXTS, TextSplit)
    ids = torch.cat([torch.tensor([TEXTS.pad_id]), *(text[0] for text in TEXTS.texts)])
    return torch.bincount(ids, minlength=ROWS) > 0


def trainer(kind: str, **settings: Any) -> Trainer:
    network: SuperNetwork = load_supernet(MODEL, DATA, seed=0).network
    chosen = {"batch_size": 8, "epochs": 2, "learning_rate": 3e-3, "weight_decay": 0.0} | settings
    if kind == "polish":
        teacher = load_supernet(MODEL, DATA, seed=0).network
        policy = {"embeddings.word": INT4, "blocks.0.mlp.fc1": INT4}
        polish = PolishSettings(**chosen)
        return Polisher(network, teacher, ARCHITECTURE, policy, TEXTS, polish, 0, QuantScheme())
    tune = TuneSettings(**chosen)
    space = network.space(SpaceSettings(depth=(1, 2), hidden_dim=(8, 16)))
    return InstaTuner(network, space, TEXTS, tune, 0) if kind == "tune" else Trainer(
        network, TEXTS, tune, 0
    )  # fmt: skip


def trained(kind: str, **settings: Any) -> dict[str, Tensor]:
    training = trainer(kind, **settings)
    training.run()
    return dict(training.network.state_dict())


def require_alike(given: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Moved to the same place, by a hundredth of the way; Adam moves by what little rounding leaves
    of a gradient of zero too, such as that of keys' biases."""
    before = load_supernet(MODEL, DATA, seed=0).network.state_dict()
    for name, tensor in given.items():
        way = (expected[name] - before[name]).norm()
        if not name.endswith("key.bias"):
            assert (tensor - expected[name]).norm() <= 0.01 * way, name


@pytest.mark.parametrize("kind", ["plain", "tune", "polish"])
def test_used_rows_move_as_they_would_in_the_whole_table(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = trainer(kind)
    moved = sum(p.numel() for group in training.optimizer.param_groups for p in group["params"])
    training.run()
    (table,) = training._tables
    assert sorted(table.rows.tolist()) == used().nonzero()[:, 0].tolist()
    assert table.trained.shape == (int(used().sum()), SIZES.embed_dim)
    after = sum(p.numel() for group in training.optimizer.param_groups for p in group["params"])
    assert after - moved == (len(table.rows) - ROWS) * SIZES.embed_dim
    monkeypatch.setattr(trained_parts, "LEAST_ROWS", 10**9)
    require_alike(training.network.state_dict(), trained(kind))


def test_rows_that_no_text_uses_are_not_decayed() -> None:
    before = load_supernet(MODEL, DATA, seed=0).network.state_dict()[WORDS]
    after = trained("plain", weight_decay=0.5)[WORDS]
    assert torch.equal(after[~used()], before[~used()])
    assert not (after == before)[used()].all(dim=1).any()


def test_gradients_are_dense_again_after_a_training() -> None:
    network = trainer("plain").network
    layer = network.get_submodule("embeddings.word")
    assert isinstance(layer, ElasticEmbedding)
    training = trainer("plain")
    training.run()
    network = training.network
    network(**next(TEXTS.batches(4)).inputs).sum().backward()
    gradient = network.get_parameter(WORDS).grad
    assert gradient is not None
    assert not gradient.is_sparse


@pytest.mark.parametrize("kind", ["plain", "polish"])
def test_resuming_ends_in_the_same_table(kind: str) -> None:
    """Rows come in the order of their batches, their moments with them."""
    whole, states = trainer(kind), list[dict[str, Tensor]]()
    whole.run(checkpoint=lambda t: states.append({k: v.clone() for k, v in t.state().items()}))
    for state in (states[0], states[7]):
        resumed = trainer(kind)
        resumed.restore(state)
        resumed.run()
        for name, tensor in whole.network.state_dict().items():
            assert torch.equal(tensor, resumed.network.state_dict()[name]), name


@pytest.mark.parametrize("first", [10**9, 1024])
def test_a_training_goes_on_with_whole_tables_and_without(
    first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with another number of processes, which train tables whole."""
    monkeypatch.setattr(trained_parts, "LEAST_ROWS", first)
    whole, states = trainer("plain"), list[dict[str, Tensor]]()
    whole.run(checkpoint=lambda t: states.append({k: v.clone() for k, v in t.state().items()}))
    monkeypatch.setattr(trained_parts, "LEAST_ROWS", 10**9 + 1024 - first)
    resumed = trainer("plain")
    assert len(resumed._tables) == 1 - len(whole._tables)
    resumed.restore(states[3])
    resumed.run()
    require_alike(resumed.network.state_dict(), whole.network.state_dict())


class NoParts:
    """Trains whole weights, of which the active parts alone have gradients."""

    def __init__(self, network: SuperNetwork) -> None: ...

    def put_back(self) -> None: ...


def test_active_parts_move_as_they_would_in_the_whole_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts = trained("polish")
    monkeypatch.setattr("supernets.training.tune.ActiveParts", NoParts)
    require_alike(parts, trained("polish"))


def test_what_a_sub_network_does_not_have_stays_as_it_is() -> None:
    before = load_supernet(MODEL, DATA, seed=0).network.state_dict()
    after = trained("polish", weight_decay=0.5)
    for name in ("mlp.fc1.weight", "mlp.fc1.bias", "attention.key.weight"):
        now, then = after[f"blocks.0.{name}"], before[f"blocks.0.{name}"]
        assert torch.equal(now[8:], then[8:]), name
        assert not torch.equal(now[:8], then[:8]), name
    now, then = after["blocks.0.mlp.fc2.weight"], before["blocks.0.mlp.fc2.weight"]
    assert torch.equal(now[:, 8:], then[:, 8:])


def test_a_teacher_of_half_precision_answers_as_it_did() -> None:
    """Products would convert its weights anyway."""
    polish = trainer("polish", precision="bf16")
    assert isinstance(polish, Polisher)
    assert polish.teacher is not None
    batch = next(TEXTS.batches(8))
    with torch.no_grad():
        given = polish._answer(polish.teacher, batch.inputs)
        whole = load_supernet(MODEL, DATA, seed=0).network.eval()
        expected = polish._answer(whole, batch.inputs)
    assert polish.teacher.head.weight.dtype == torch.bfloat16
    assert torch.equal(given.logits, expected.logits)
    assert torch.equal(given.features, expected.features)
