"""Fixtures that several test files share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import yaml

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


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Tests share the machine: more threads only wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def impatient() -> Iterator[None]:
    """Tests run beside each other and want no calm figures; those of patience set their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hardware.latency.PATIENCE_S", 0)
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
