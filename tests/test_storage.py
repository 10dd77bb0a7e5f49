from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest

from hardware.formats.scheme import QuantScheme
from hardware.graph.model_file import chunks, save_model
from hardware.session import open_session, predict
from hardware.target import Target
from hardware.writing.materialize import materialize
from hardware.writing.verify import read_policy
from tests.sample_networks import images, random_policy, random_vit, vit


@pytest.fixture
def model() -> onnx.ModelProto:
    _, template = vit()
    rng = np.random.default_rng(0)
    _, weights = random_vit(rng)
    policy = random_policy(template, weights, rng, ("fp32", "int8", "int4"))
    return materialize(template, weights, policy, QuantScheme())


def logits(source: str | bytes) -> np.ndarray:
    return predict(open_session(source, Target()), [{"pixel_values": images(3).numpy()}])


def test_written_chunks_are_the_same_message(model: onnx.ModelProto) -> None:
    written = b"".join(chunks(model))
    assert onnx.load_from_string(written) == model
    assert len(written) == model.ByteSize()


def test_weights_beside_the_model_load_with_it(tmp_path: Path, model: onnx.ModelProto) -> None:
    save_model(model, tmp_path / "model.onnx", limit_bytes=1000)
    assert sorted(os.listdir(tmp_path)) == ["model.onnx", "model.onnx.data"]
    assert (tmp_path / "model.onnx").stat().st_size < model.ByteSize() / 2
    onnx.checker.check_model(str(tmp_path / "model.onnx"), full_check=True)
    again = logits(str(tmp_path / "model.onnx"))
    assert np.array_equal(again, logits(model.SerializeToString()))
    header = onnx.load(tmp_path / "model.onnx", load_external_data=False)
    assert read_policy(header) == read_policy(model)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: onnx.ModelProto
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        save_model(model, path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["model.onnx"]
