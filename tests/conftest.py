"""Fixtures that several test files share.

They import the frameworks themselves: the process that deals tests out to others needs none.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

LONGEST = (
    "test_pipeline.py",
    "test_supernet_export.py",
    "test_kills.py",
    "test_benchmarks.py",
    "test_shipped_texts.py",
    "test_shipped_images.py",
    "test_damage.py",
    "test_tasks.py",
    "test_tune.py",
    "test_strategies.py",
    "test_commands.py",
    "test_warm_start.py",
    "test_files_fuzz.py",
    "test_checkpoint_spellings.py",
    "test_budget.py",
    "test_activation.py",
    "test_api.py",
    "test_shipped_questions.py",
)
"""Files that are begun first, so that no worker is left alone with one at the end."""


def pytest_configure() -> None:
    """Answers of ONNX Runtime are compared with torch's in half the range of INT8's weights where
    full ones overflow: before anything else knows the scheme."""
    from hardware.formats.scheme import QuantScheme
    from hardware.target import cpu_flags, int8_overflows

    if int8_overflows(cpu_flags()):
        QuantScheme.model_fields["reduce_range"].default = True
        QuantScheme.model_rebuild(force=True)


TINY: dict[str, object] = {
    "name": "tiny",
    "seed": 3,
    "model": {
        "vit": {
            "image_size": 16,
            "patch_size": 8,
            "embed_dim": 32,
            "depth": 3,
            "num_heads": 4,
            "hidden_dim": 64,
        },
        "training": {"epochs": 12, "batch_size": 128, "learning_rate": 0.003},
    },
    "data": {"name": "digits"},
    "space": {"depth": [1, 2, 3], "num_heads": [2, 4], "hidden_dim": [32, 64]},
    "tune": {"epochs": 6, "batch_size": 128},
    "search": {"evaluations": 20, "round_size": 10, "generations": 10},
    "polish": None,
    "export": {"models": 3},
}
"""An experiment that runs in seconds and still trains, searches and exports for real."""

FEW: dict[str, object] = {"name": "digits", "max_validation": 100, "max_test": 100}
"""Of which every model is asked less, one sample at a time."""

LITTLE: dict[str, object] = {
    "model": {**TINY["model"], "training": {"epochs": 1, "batch_size": 250}},  # type: ignore[dict-item] # a dict in a dict
    "data": FEW,
    "tune": {"epochs": 1, "batch_size": 250},
    "search": {"evaluations": 4, "round_size": 4, "population": 10, "generations": 2},
    "export": {"models": 1},
}
"""Its sections where nothing depends on how well it trains or searches."""

HURRIED_S = 1e-3
"""For all timed rounds of small models together."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files; see `LONGEST`."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


def pytest_collection_finish() -> None:
    """What was imported is no garbage: it is not looked through again and again."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Tests share the machine: more threads only wait for each other."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def impatient() -> Iterator[None]:
    """Tests run beside each other and want no calm or exact figures; those of latency do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hardware.latency.PATIENCE_S", 0)
        patch.setattr("hardware.latency.TIMED_S", HURRIED_S)
        yield


@pytest.fixture(scope="session", autouse=True)
def shared_work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is the same for many tests is done once."""
    from tests.once import SHELF, share_work

    base = tmp_path_factory.getbasetemp()
    with pytest.MonkeyPatch.context() as patch:
        shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
        patch.setenv(SHELF, str(shared / "templates"))
        share_work(patch)
        yield


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep remembered latencies out of the user's cache, the same ones for all tests."""
    monkeypatch.setenv("SIMQNAS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def experiment_file(tmp_path: Path) -> Callable[..., Path]:
    """Write the tiny experiment with some sections replaced; gives the path."""

    def write(**sections: object) -> Path:
        path = tmp_path / "tiny.yaml"
        path.write_text(yaml.safe_dump({**TINY, **sections}))
        return path

    return write
