"""Exported models are served as their pages say, and where runtimes disagree it is told."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from hardware.formats.int8 import INT8
from hardware.formats.policy import QuantPolicy
from hardware.formats.scheme import QuantScheme
from hardware.portability.agreement import Agreement, ready_runtimes
from hardware.portability.runtimes import DeploymentError
from hardware.portability.triton import triton_config
from hardware.target import Target
from hardware.writing.materialize import arrays, materialize, save_model
from nas.delivery.model_card import model_card
from nas.delivery.results import Front, ValidatedModel
from nas.delivery.selection import recommend
from nas.delivery.serving import TRANSFORMERS_JS_FILE, browser_code, lay_out, runs_in
from nas.experiment.load import load_experiment
from nas.experiment.schema import ExportSettings
from nas.reporting.texts import runtimes
from tests.other_runtimes import NODE_MODULES, needs_browser_runtime
from tests.sample_networks import VIT, bert, vit
from tests.test_disturbed import REFERENCE_MODELS, model

PAGE = Path(__file__).parent.parent / "docs" / "how-to" / "deployment.md"
SAME = Agreement("onnxruntime", "1.32.0", 1e-6, 1e-4, 1.0, 0.1)
OLDER = replace(SAME, runtime="onnxruntime@/old", version="1.9.2")
OTHER = Agreement("openvino", "2026.1.0", 0.5, 1e-4, 0.75, 0.1)
BROKEN = Agreement("onnxruntime-web", failure="onnxruntime-web: no such operator")
CONFIG = {"model_type": "vit", "num_channels": VIT.channels, "image_size": VIT.image_size}


def image_model() -> onnx.ModelProto:
    network, template = vit()
    network.activate({})
    weights = arrays(network.extract().state_dict())
    policy = QuantPolicy.uniform([layer.name for layer in template.layers], INT8)
    return materialize(template, weights, policy, QuantScheme())


def text_model() -> onnx.ModelProto:
    plain, template = bert()
    return materialize(template, arrays(plain.state_dict()), QuantPolicy({}), QuantScheme())


def fields(text: str) -> dict[str, list[Any]]:
    """Protobuf's text format, as far as config.pbtxt needs it: field -> all its values."""
    tokens = re.findall(r'"[^"]*"|[A-Za-z_][\w]*|-?\d+|[{}\[\]:,]', text)
    assert "".join(tokens) == re.sub(r"\s", "", text), "something is no token"
    found, rest = _message([*tokens, "}"])
    assert not rest
    return found


def _message(tokens: list[str]) -> tuple[dict[str, list[Any]], list[str]]:
    found: dict[str, list[Any]] = {}
    while tokens[0] != "}":
        name, tokens = tokens[0], tokens[1:]
        assert name.isidentifier()
        tokens = tokens[1:] if tokens[0] == ":" else tokens
        values, tokens = _values(tokens)
        found.setdefault(name, []).extend(values)
    return found, tokens[1:]


def _values(tokens: list[str]) -> tuple[list[Any], list[str]]:
    if tokens[0] == "{":
        value, tokens = _message(tokens[1:])
        return [value], tokens
    if tokens[0] != "[":
        text = tokens[0]
        return [int(text) if re.fullmatch(r"-?\d+", text) else text.strip('"')], tokens[1:]
    values, tokens = [], tokens[1:]
    while tokens[0] != "]":
        more, tokens = _values(tokens)
        values += more
        tokens = tokens[1:] if tokens[0] == "," else tokens
    return values, tokens[1:]


KINDS = {"tensor(float)": "TYPE_FP32", "tensor(int64)": "TYPE_INT64"}


@pytest.mark.parametrize("make", [image_model, text_model])
def test_triton_is_told_names_types_and_sizes_of_onnxruntimes_session(make: Any) -> None:
    made = make()
    found = fields(triton_config(made, Target(threads=3, batch_size=2)))
    session = onnxruntime.InferenceSession(made.SerializeToString())
    for key, values in (("input", session.get_inputs()), ("output", session.get_outputs())):
        described = {entry["name"][0]: entry for entry in found[key]}
        assert set(described) == {value.name for value in values}
        for value in values:
            entry = described[value.name]
            assert entry["data_type"] == [KINDS[value.type]]
            sizes = [size if isinstance(size, int) else -1 for size in value.shape]
            assert sizes == [-1, *entry["dims"]], "the batch is Triton's own"
    assert found["backend"] == ["onnxruntime"]
    assert found["max_batch_size"] == [2]
    assert found["dynamic_batching"] == [{}]
    threads = {"key": ["intra_op_thread_count"], "value": [{"string_value": ["3"]}]}
    assert found["parameters"] == [threads]


def test_triton_batches_nothing_of_a_fixed_batch() -> None:
    made = image_model()
    for value in (*made.graph.input, *made.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    found = fields(triton_config(made, Target()))
    assert found["max_batch_size"] == [0]
    assert found["input"][0]["dims"] == [1, VIT.channels, VIT.image_size, VIT.image_size]
    assert "dynamic_batching" not in found


def test_folders_are_laid_out_for_servers_on_request(tmp_path: Path) -> None:
    save_model(image_model(), tmp_path / "model.onnx")
    lay_out(tmp_path, ExportSettings(), Target())
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    lay_out(tmp_path, ExportSettings(triton=True, transformers_js=True), Target())
    content = (tmp_path / "model.onnx").read_bytes()
    for place in ("1/model.onnx", TRANSFORMERS_JS_FILE):
        assert (tmp_path / place).read_bytes() == content
        assert (tmp_path / place).samefile(tmp_path / "model.onnx"), "it takes no room"
    candidate = REFERENCE_MODELS[0].candidate
    prep = {"image_processor_type": "ViTImageProcessor", "do_resize": False}
    card = model_card("fp32", candidate, CONFIG, prep, None, tmp_path)
    assert "In Triton: " in card
    assert 'pipeline("image-classification", "fp32", { dtype: "q8" })' in card
    assert "Triton" not in model_card("fp32", candidate, CONFIG, prep, None)


@needs_browser_runtime
@pytest.mark.parametrize("is_text", [False, True])
def test_the_lines_for_browsers_run_under_node(tmp_path: Path, is_text: bool) -> None:
    made = text_model() if is_text else image_model()
    save_model(made, tmp_path / "model.onnx")
    (tmp_path / "serve.mjs").write_text(browser_code(CONFIG, ("text",) if is_text else ("image",)))
    (tmp_path / "node_modules").symlink_to(NODE_MODULES)
    done = subprocess.run(
        ["node", "serve.mjs"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    ids = np.array([[2, 7, 3]])
    zeros = np.zeros((1, VIT.channels, VIT.image_size, VIT.image_size), np.float32)
    texts = {"input_ids": ids, "attention_mask": ids * 0 + 1, "token_type_ids": ids * 0}
    session = onnxruntime.InferenceSession(made.SerializeToString())
    logits = session.run(["logits"], texts if is_text else {"pixel_values": zeros})[0]
    assert int(done.stdout) == logits.argmax()


def test_the_readme_shows_the_same_lines() -> None:
    code = browser_code({**CONFIG, "num_channels": 3, "image_size": 224}, ("image",))
    assert f"```js\n{code}```" in PAGE.read_text(encoding="utf-8")


def fast(*agreements: Agreement) -> ValidatedModel:
    return replace(model("fast", 0.1), agreements=agreements)


def test_a_model_that_a_runtime_answers_otherwise_for_is_not_recommended() -> None:
    assert recommend([*REFERENCE_MODELS, fast(SAME, BROKEN)], 0.0) == "fast"
    assert recommend([*REFERENCE_MODELS, fast(SAME, OTHER)], 0.0) == "int8"
    everywhere = [replace(m, agreements=(OTHER,)) for m in REFERENCE_MODELS]
    assert recommend([*everywhere, fast(OTHER)], 0.0) == "fast"


def test_where_models_run_is_kept_and_told() -> None:
    front = Front((fast(SAME, OLDER, OTHER, BROKEN), *REFERENCE_MODELS), "int8", 3, {})
    assert Front.from_json(front.to_json()).to_json() == front.to_json()
    older = front.to_json()
    for entry in older["models"]:
        del entry["agreements"]
    assert not Front.from_json(older).models[0].agreements
    runs, differs, fails = runtimes(front)
    told = (
        "Runs in: onnxruntime 1.32.0, onnxruntime 1.9.2; the oldest measured is onnxruntime 1.9.2."
    )
    assert runs == f"fast: {told}"
    assert differs.startswith("fast: openvino 2026.1.0: logits differ by 0.5, allowed are 0.0001")
    assert fails == "fast: onnxruntime-web: no such operator"
    card = model_card("fast", front.models[0].candidate, {}, None, front.models[0])
    assert told in card
    assert runs_in([OTHER, BROKEN]) == ""


def test_runtimes_are_tried_before_anything_is_trained(tmp_path: Path) -> None:
    (tmp_path / "onnxruntime").mkdir()
    (tmp_path / "onnxruntime" / "__init__.py").write_text("raise ImportError('no libonnx.so.1')")
    names = [f"onnxruntime@{tmp_path}", "openvino@/no/such/place", "onnxruntime"]
    with pytest.raises(DeploymentError) as caught:
        ready_runtimes(names)
    broken, missing = str(caught.value).splitlines()
    assert broken == f"export.verify: onnxruntime@{tmp_path}: ImportError: no libonnx.so.1"
    assert missing.startswith("export.verify: openvino@/no/such/place: /no/such/place does not")
    assert [str(runtime) for runtime in ready_runtimes(["onnxruntime"])] == ["onnxruntime"]


def test_places_of_runtimes_are_taken_from_beside_the_file(experiment_file: Any) -> None:
    path = experiment_file(export={"verify": ["onnxruntime@old", "openvino"]})
    verify = load_experiment(path).export.verify
    assert verify == (f"onnxruntime@{path.resolve().parent / 'old'}", "openvino")
    with pytest.raises(ValueError, match=r"export\.verify\.0: tflite: no runtime of this name"):
        load_experiment(experiment_file(export={"verify": ["tflite"]}))
