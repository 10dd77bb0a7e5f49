"""The README.md of an exported model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nas.delivery.markdown import markdown_text
from nas.delivery.results import ValidatedModel, mark
from nas.evaluation.candidate import Candidate

IMAGE_CODE = """\
import json
import numpy as np, onnxruntime
from PIL import Image

config, prep = (json.load(open(f)) for f in ("config.json", "preprocessor_config.json"))
size = (prep["size"]["width"], prep["size"]["height"])
pixels = np.asarray(Image.open("image.png").convert("RGB").resize(size, prep["resample"])) / 255
pixels = (pixels - prep["image_mean"]) / prep["image_std"]
inputs = {"pixel_values": pixels.transpose(2, 0, 1)[None].astype(np.float32)}
logits = onnxruntime.InferenceSession("model.onnx").run(["logits"], inputs)[0]
print(config["id2label"][str(logits[0].argmax())])
"""

CHECKPOINT_IMAGE_CODE = """\
import json
import onnxruntime
from PIL import Image
from transformers import AutoImageProcessor

image = Image.open("image.png").convert("RGB")
inputs = AutoImageProcessor.from_pretrained(".")(image, return_tensors="np")
logits = onnxruntime.InferenceSession("model.onnx").run(["logits"], dict(inputs))[0]
print(json.load(open("config.json"))["id2label"][str(logits[0].argmax())])
"""

TEXT_CODE = """\
import json
import numpy as np, onnxruntime
from tokenizers import Tokenizer

text = Tokenizer.from_file("tokenizer.json").encode("the sentence to classify")
values = dict(
    input_ids=text.ids, attention_mask=text.attention_mask, token_type_ids=text.type_ids
)
session = onnxruntime.InferenceSession("model.onnx")
inputs = {i.name: np.array([values[i.name]], np.int64) for i in session.get_inputs()}
logits = session.run(["logits"], inputs)[0]
print(json.load(open("config.json"))["id2label"][str(logits[0].argmax())])
"""


def model_card(
    name: str,
    candidate: Candidate,
    preprocessing: Mapping[str, Any] | None,
    measured: ValidatedModel | None,
) -> str:
    """Markdown: what the model is, what was measured, how to run it in plain ONNX Runtime.

    preprocessing: what preprocessor_config.json holds; None for texts.
    """
    lines = [f"# {markdown_text(name)}", "", _composition(candidate), ""]
    if measured is not None:
        lines += [*_measurements(measured), ""]
    lines += [
        "## Run it",
        "",
        "Needs onnxruntime 1.25 or newer.",
        "",
        "```python",
        _code(preprocessing).rstrip(),
        "```",
        "",
    ]
    sizes = [f"| {markdown_text(gene)} | {value} |" for gene, value in candidate.architecture]
    lines += ["## Architecture", "", "| gene | value |", "|---|---|", *sizes, ""]
    lines += ["`policy.json` holds the precision of every layer.", ""]
    return "\n".join(lines)


def _code(preprocessing: Mapping[str, Any] | None) -> str:
    """Plain NumPy where the images are only resized and normalised."""
    if preprocessing is None:
        return TEXT_CODE
    resized = {"height", "width"} == set(preprocessing.get("size", ()))
    plain = resized and not preprocessing.get("do_center_crop")
    return IMAGE_CODE if plain else CHECKPOINT_IMAGE_CODE


def _composition(candidate: Candidate) -> str:
    counts: dict[str, int] = {}
    for precision in candidate.policy.values():
        counts[precision.value] = counts.get(precision.value, 0) + 1
    parts = ", ".join(f"{count} {precision}" for precision, count in sorted(counts.items()))
    return f"An ONNX classifier found by simqnas (candidate `{candidate.key}`). Layers: {parts}."


def _measurements(model: ValidatedModel) -> list[str]:
    median, low, high = model.latency_ms
    lines = [
        "| measured | |",
        "|---|---|",
        f"| test accuracy | {model.test_accuracy:.4f} |",
        f"| validation accuracy | {model.validation_accuracy:.4f} |",
        f"| latency | {median:.3f} ms (quartiles {low:.3f} to {high:.3f})"
        f"{mark(model.latency_disturbed)} |",
        f"| file | {model.size_bytes:,} bytes |",
        f"| quantized | {markdown_text(model.coverage)} |",
    ]
    for name, versus in model.versus.items():
        lines.append(
            f"| against {markdown_text(name)} | {versus.latency_ratio:.2f}x faster"
            f"{mark(versus.latency_disturbed)}, "
            f"{versus.size_ratio:.2f}x smaller, test accuracy {versus.accuracy_difference:+.4f} |"
        )
    return lines
