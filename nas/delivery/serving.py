"""How an exported model is served: code for its README, and other servers' folder layouts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from hardware.files import write_atomically
from hardware.portability.agreement import Agreement
from hardware.portability.triton import CONFIG_FILE, VERSION, triton_config
from hardware.target import Target
from nas.experiment.schema import ExportSettings
from supernets.pretrained.config_json import size_of
from supernets.settings import Kind
from supernets.tasks.classification import CLASSIFICATION
from supernets.tasks.task import Task

TRANSFORMERS_JS_FILE = "onnx/model_quantized.onnx"
"""What transformers.js loads for `dtype: "q8"`, beside config.json and the preprocessor's files."""

IMAGE_INPUTS = """\
const pixels = new Float32Array({length}); // one image as preprocessor_config.json says, CHW
const inputs = {{ pixel_values: new ort.Tensor("float32", pixels, {shape}) }};
"""

TEXT_INPUTS = """\
const ids = [2n, 7n, 3n]; // the tokens of one text, as tokenizer.json says
const tensor = (of) => new ort.Tensor("int64", BigInt64Array.from(ids, of), [1, ids.length]);
const all = {
  input_ids: tensor((id) => id), attention_mask: tensor(() => 1n), token_type_ids: tensor(() => 0n),
};
const inputs = Object.fromEntries(session.inputNames.map((name) => [name, all[name]]));
"""

BOTH_INPUTS = """\
const pixels = new Float32Array({length}); // images as preprocessor_config.json says, CHW
const ids = [2n, 7n, 3n]; // the tokens of one text, as tokenizer.json says
const tensor = (of) => new ort.Tensor("int64", BigInt64Array.from(ids, of), [1, ids.length]);
const inputs = {{
  pixel_values: new ort.Tensor("float32", pixels, {shape}),
  input_ids: tensor((id) => id), attention_mask: tensor(() => 1n),
}};
"""

BROWSER_CODE = """\
import * as ort from "onnxruntime-web";

const session = await ort.InferenceSession.create("model.onnx", {{ executionProviders: ["wasm"] }});
{inputs}const {{ {output} }} = await session.run(inputs);
{answer}
"""
LARGEST = "console.log(logits.data.indexOf(Math.max(...logits.data)));"
ALL = "console.log({0}.dims, {0}.data);"

OPENVINO_CODE = """\
settings = {"INFERENCE_PRECISION_HINT": "f32"}  # else bfloat16 where the CPU has it
model = openvino.Core().compile_model("model.onnx", "CPU", settings)
outputs = model(inputs)
"""

TRANSFORMERS_JS_CODE = """\
import {{ env, pipeline }} from "@huggingface/transformers";

Object.assign(env, {{ localModelPath: "..", allowRemoteModels: false }});
const ask = await pipeline("{task}", "{name}", {{ dtype: "q8" }});
console.log(await ask({sample}));
"""


def lay_out(folder: Path, settings: ExportSettings, target: Target) -> None:
    """Add what Triton and transformers.js expect to a model folder, where that is asked for.

    The model is there once more as a hard link, which takes no room.
    """
    if settings.triton:
        model = onnx.load(str(folder / "model.onnx"), load_external_data=False)
        write_atomically(folder / CONFIG_FILE, triton_config(model, target))
        for file in folder.glob("model.onnx*"):  # weights of more than 2 GB lie beside it
            _link(file, folder / VERSION / file.name)
    if settings.transformers_js:
        _link(folder / "model.onnx", folder / TRANSFORMERS_JS_FILE)


def _link(file: Path, place: Path) -> None:
    place.parent.mkdir(exist_ok=True)
    try:
        os.link(file, place)
    except OSError:  # a file system without hard links
        shutil.copy(file, place)


def browser_code(
    config: Mapping[str, Any], sample: Sequence[Kind], task: Task = CLASSIFICATION
) -> str:
    """JavaScript that runs a model in onnxruntime-web, in a browser or under node."""
    output = task.outputs[0]
    answer = LARGEST if task.name in ("classification", "pairs") else ALL.format(output)
    inputs = TEXT_INPUTS
    if "image" in sample:
        size, several = size_of(config, "image_size"), [2] if sample.count("image") > 1 else []
        shape = [1, *several, size_of(config, "channels"), size, size]
        length = " * ".join(map(str, shape[1:]))
        inputs = BOTH_INPUTS if "text" in sample else IMAGE_INPUTS
        inputs = inputs.format(length=length, shape=shape)
    return BROWSER_CODE.format(inputs=inputs, output=output, answer=answer)


def runs_in(agreements: Sequence[Agreement]) -> str:
    """One sentence on the runtimes in which a model was measured; empty where none was."""
    agreeing = [row for row in agreements if row.agrees]
    if not agreeing:
        return ""
    names = dict.fromkeys(f"{row.runtime.partition('@')[0]} {row.version}" for row in agreeing)
    versions = [row.version for row in agreeing if row.runtime.partition("@")[0] == "onnxruntime"]
    told = f"Runs in: {', '.join(names)}"
    if versions:
        told += f"; the oldest measured is onnxruntime {min(versions, key=_numbers)}"
    return told + "."


def _numbers(version: str) -> list[int]:
    """Parts of a version as they are ordered: 1.9.0 is older than 1.16.3."""
    return [int(part) for part in version.split(".")[:3] if part.isdigit()]


def serve_section(
    name: str,
    config: Mapping[str, Any],
    sample: Sequence[Kind],
    folder: Path | None,
    task: Task,
) -> list[str]:
    """Lines of Markdown: other ways to serve the model than Python's onnxruntime.

    folder: of the model, which says for which servers it is laid out.
    """
    lines = ["## Serve it", "", "In a browser (`npm install onnxruntime-web`):", ""]
    lines += _fenced("js", browser_code(config, sample, task))
    lines += ["In OpenVINO (`pip install openvino`), `inputs` as above:", ""]
    lines += _fenced("python", "import openvino\n\n" + OPENVINO_CODE)
    for client, code in task.clients.items():
        lines += [f"In {client}:", "", *_fenced("python", code)]
    if folder is not None and (folder / CONFIG_FILE).exists():
        lines += [
            f"In Triton: this folder is an entry of a model repository (`{CONFIG_FILE}`, "
            f"`{VERSION}/model.onnx`).",
            "",
        ]
    pipelines: dict[tuple[str, ...], tuple[str, str]] = {
        ("image",): ("image-classification", '"image.png"'),
        ("text",): (task.pipeline, '"the sentence to look at"'),
    }  # none of its own takes both
    pipeline = pipelines.get(tuple(sample))
    if folder is not None and (folder / TRANSFORMERS_JS_FILE).exists() and pipeline is not None:
        code = TRANSFORMERS_JS_CODE.format(task=pipeline[0], name=name, sample=pipeline[1])
        lines += ["In transformers.js (`npm install @huggingface/transformers`):", ""]
        lines += _fenced("js", code)
    return lines


def _fenced(language: str, code: str) -> list[str]:
    return [f"```{language}", code.rstrip(), "```", ""]
