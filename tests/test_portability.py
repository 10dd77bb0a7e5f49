"""Models in other runtimes: agreement is told from disagreement, and from not running at all."""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info
from torch import nn

from hardware.formats.policy import QuantPolicy
from hardware.formats.registry import find_format
from hardware.formats.scheme import QuantScheme
from hardware.graph.template import Template
from hardware.portability.agreement import (
    Agreement,
    Samples,
    compare,
    shipped_samples,
    verify_folder,
)
from hardware.portability.runtimes import (
    DeploymentError,
    Runtime,
    installed_runtimes,
    parse_runtime,
)
from hardware.session import open_session, predict
from hardware.target import Target
from hardware.writing.calibrate import calibrate
from hardware.writing.materialize import Weights, arrays, materialize, save_model
from nas.evaluation.candidate_builder import Inputs
from tests.other_runtimes import EACH
from tests.sample_networks import BERT, MODERNBERT, RESNET, VIT, bert, resnet, vit

ROOT = Path(__file__).parent.parent
HERE = Runtime("onnxruntime")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model that doubles its input, and samples of it."""
    vector = make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])
    logits = make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])
    nodes = [make_node("Add", ["x", "x"], ["logits"])]
    model = make_model(
        make_graph(nodes, "double", [vector], [logits]),
        opset_imports=[make_opsetid("", 13)],
        ir_version=8,
    )
    onnx.save(model, str(tmp_path / "model.onnx"))
    x = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    Samples({"x": x}, 2 * x).save(tmp_path)
    return tmp_path


def weights_of(network: nn.Module) -> Weights:
    return arrays(network.state_dict())


@cache
def small_models() -> dict[str, tuple[Template, Weights, Inputs]]:
    """Family -> template, random weights, and a few inputs."""
    rng = np.random.default_rng(0)
    network, vit_template = vit()
    network.activate({})
    ids = rng.integers(0, BERT.vocab_size, (8, 9))
    texts: Inputs = {"input_ids": ids, "attention_mask": ids * 0 + 1, "token_type_ids": ids * 0}
    modern, untyped = bert(MODERNBERT), {n: texts[n] for n in ("input_ids", "attention_mask")}
    images = [rng.standard_normal((8, c.channels, 16, 16), np.float32) for c in (VIT, RESNET)]
    return {
        "vit": (vit_template, weights_of(network.extract()), {"pixel_values": images[0]}),
        "bert": (bert()[1], weights_of(bert()[0]), texts),
        "modernbert": (modern[1], weights_of(modern[0]), untyped),
        "resnet": (resnet()[1], weights_of(resnet()[0]), {"pixel_values": images[1]}),
    }


def package(place: Path, name: str, code: str) -> Path:
    """A Python package of this name that shadows the real one."""
    (place / name).mkdir(parents=True)
    (place / name / "__init__.py").write_text(code)
    return place


def test_the_runtime_that_made_the_samples_agrees(folder: Path) -> None:
    (row,) = verify_folder(folder, [HERE])
    assert row.agrees
    assert row.difference == 0
    assert row.top1 == 1
    assert row.median_ms > 0


@pytest.mark.parametrize(
    ("output", "width", "alike"),
    [
        ("logits", 3, "100.0% same top 1"),
        ("logits", 1, "-"),
        ("sentence_embedding", 3, "cosine 1.000000"),
    ],
)
def test_vectors_and_numbers_have_no_top_1(
    output: str, width: int, alike: str, tmp_path: Path
) -> None:
    x, y = (make_tensor_value_info(n, TensorProto.FLOAT, ["n", width]) for n in ("x", output))
    graph = make_graph([make_node("Identity", ["x"], [output])], "same", [x], [y])
    model = make_model(graph, opset_imports=[make_opsetid("", 13)], ir_version=7)
    onnx.save(model, str(tmp_path / "model.onnx"))
    values = np.random.default_rng(0).normal(size=(4, width)).astype(np.float32)
    samples = Samples({"x": values}, values, values[:1])
    (row,) = compare(tmp_path / "model.onnx", samples, [HERE])
    assert row.agrees
    assert row.alike == alike
    kept = {name: value for name, value in row.to_json().items() if name != "cosine"}
    assert Agreement.from_json(kept).difference == 0


def test_another_answer_is_a_disagreement(folder: Path, tmp_path: Path) -> None:
    code = """
import numpy as np
__version__ = "0.1"
class SessionOptions: pass
class InferenceSession:
    def __init__(self, *_, **__): pass
    def run(self, _, inputs): return [-2 * inputs["x"]]
"""
    place = package(tmp_path / "other", "onnxruntime", code)
    (row,) = verify_folder(folder, [Runtime("onnxruntime", place)])
    samples = Samples.load(folder)
    assert not row.agrees
    assert row.version == "0.1"
    assert row.difference == pytest.approx(2 * np.abs(samples.logits).max())
    assert row.top1 == 0


def test_logits_that_are_no_numbers_do_not_agree(folder: Path, tmp_path: Path) -> None:
    samples = Samples.load(folder)
    Samples(samples.inputs, np.full_like(samples.logits, np.nan)).save(folder)
    assert not verify_folder(folder, [HERE])[0].agrees


def test_a_broken_runtime_is_one_line_and_the_others_are_still_tried(
    folder: Path, tmp_path: Path
) -> None:
    place = package(tmp_path / "broken", "onnxruntime", "raise ImportError('no libonnx.so.1')")
    broken, good = verify_folder(folder, [Runtime("onnxruntime", place), HERE])
    assert broken.failure == f"onnxruntime@{place}: ImportError: no libonnx.so.1"
    assert not broken.agrees
    assert good.agrees


@pytest.mark.parametrize("name", ["tflite", "onnxruntime@/no/such/place", "openvino@nowhere"])
def test_unknown_names_and_places_are_refused(name: str) -> None:
    with pytest.raises(DeploymentError, match=name.partition("@")[0]):
        parse_runtime(name)


def test_files_that_do_not_belong_together_are_refused(folder: Path) -> None:
    samples = Samples.load(folder)
    Samples({"y": samples.inputs["x"]}, samples.logits).save(folder)
    with pytest.raises(DeploymentError, match=r"holds \['y'\], the model asks for \['x'\]"):
        verify_folder(folder, [HERE])
    (folder / "samples.npz").write_bytes(b"no archive")
    with pytest.raises(DeploymentError, match="damaged"):
        verify_folder(folder, [HERE])
    (folder / "samples.npz").unlink()
    with pytest.raises(DeploymentError, match=r"samples\.npz: missing"):
        verify_folder(folder, [HERE])
    samples.save(folder)
    (folder / "model.onnx").write_bytes(b"no model at all")
    with pytest.raises(DeploymentError, match="no ONNX model"):
        verify_folder(folder, [HERE])


@pytest.mark.parametrize("rows", ["len(x) >= 32", "len(x) == 1"], ids=["block", "alone"])
def test_rows_that_are_wrong_in_a_large_batch_or_alone_are_seen(
    folder: Path, tmp_path: Path, rows: str
) -> None:
    code = f"""
__version__ = "0.1"
class SessionOptions: pass
class InferenceSession:
    def __init__(self, *_, **__): pass
    def run(self, _, inputs):
        x = 2 * inputs["x"]
        x[-1] += {rows}
        return [x]
"""
    samples = Samples.load(folder)
    Samples(samples.inputs, samples.logits, samples.logits[:1]).save(folder)
    place = package(tmp_path / "wrong", "onnxruntime", code)
    (row,) = verify_folder(folder, [Runtime("onnxruntime", place)])
    assert not row.agrees
    assert row.difference == pytest.approx(1)
    assert verify_folder(folder, [HERE])[0].difference == 0


def test_samples_of_different_numbers_are_refused(folder: Path) -> None:
    samples = Samples.load(folder)
    Samples(samples.inputs, samples.logits[:3]).save(folder)
    with pytest.raises(DeploymentError, match="different numbers of samples"):
        verify_folder(folder, [HERE])


def test_samples_fit_a_megabyte() -> None:
    assert shipped_samples(4 * 3 * 224 * 224) == 2
    assert shipped_samples(4 * 3 * 96 * 96) == 9
    assert shipped_samples(300) == 32


@pytest.mark.parametrize("runtime", installed_runtimes(), ids=str)
def test_every_runtime_that_is_installed_agrees(folder: Path, runtime: Runtime) -> None:
    assert verify_folder(folder, [runtime])[0].agrees


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The command as a user calls it."""
    line = [sys.executable, "-m", "cli", "verify", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, cwd=ROOT, check=False)


def test_the_command_prints_a_table_or_json(folder: Path) -> None:
    done = command(folder, "--runtime", "onnxruntime", "--json")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)
    assert row["agrees"]
    assert row["failure"] is None
    shown = command(folder, "--runtime", "onnxruntime")
    assert "100.0%" in shown.stdout


def test_a_difference_ends_the_command_with_code_2(folder: Path) -> None:
    samples = Samples.load(folder)
    Samples(samples.inputs, samples.logits + 1).save(folder)
    done = command(folder, "--runtime", "onnxruntime")
    assert done.returncode == 2
    assert "logits differ by 1" in done.stderr
    assert "Traceback" not in done.stderr


FAMILIES = ["vit", "bert", "resnet", "modernbert"]
PRECISIONS = ["fp32", "int8", "int4", "int3", "int2"]


def answer(folder: Path, runtime: Runtime, family: str, precisions: Sequence[str]) -> Agreement:
    """How a family's model, its layers in these precisions by turns, answers in a runtime."""
    template, weights, inputs = small_models()[family]
    layers = zip(template.layers, itertools.cycle(precisions), strict=False)
    policy = QuantPolicy({layer.name: find_format(name) for layer, name in layers})
    scheme = QuantScheme()
    ranges = calibrate(template, weights, scheme, [inputs]) if family == "resnet" else None
    save_model(materialize(template, weights, policy, scheme, ranges), folder / "model.onnx")
    session = open_session(folder / "model.onnx", Target())
    Samples(inputs, predict(session, [inputs])).save(folder)
    (row,) = verify_folder(folder, [runtime])
    return row


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("runtime", EACH)
def test_every_family_with_every_format_in_it_runs_in_other_runtimes(
    tmp_path: Path, runtime: Runtime, family: str
) -> None:
    row = answer(tmp_path, runtime, family, PRECISIONS)
    assert row.failure is None
    assert row.agrees, f"{row.difference} > {row.tolerance}"
    assert row.top1 == 1


@pytest.mark.slow
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("runtime", EACH)
def test_every_family_and_format_runs_in_other_runtimes(
    tmp_path: Path, runtime: Runtime, family: str, precision: str
) -> None:
    """Without the layers of other formats, whose rounding hides smaller differences."""
    row = answer(tmp_path, runtime, family, [precision])
    assert row.failure is None
    assert row.agrees, f"{row.difference} > {row.tolerance}"
    assert row.top1 == 1


@pytest.mark.parametrize("kept", [0, 100, 0.5, 0.99])
def test_samples_that_were_cut_are_told_in_one_line(tmp_path: Path, kept: float) -> None:
    Samples({"x": np.ones((2, 300), np.float32)}, np.ones((2, 3), np.float32)).save(tmp_path)
    path = tmp_path / "samples.npz"
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content) if kept < 1 else kept)])
    with pytest.raises(DeploymentError, match=r"samples\.npz: damaged .*export the model again"):
        Samples.load(tmp_path)


@pytest.mark.parametrize("seed", range(20))
def test_samples_with_a_damaged_byte_are_the_same_or_refused(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(2, 3)).astype(np.float32)
    Samples({"x": np.ones((2, 300), np.float32)}, logits).save(tmp_path)
    path = tmp_path / "samples.npz"
    content = bytearray(path.read_bytes())
    content[rng.integers(len(content))] ^= int(rng.integers(1, 256))
    path.write_bytes(content)
    with contextlib.suppress(DeploymentError):
        Samples.load(tmp_path)
