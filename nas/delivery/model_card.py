"""The README.md of an exported model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import indent
from typing import Any

from nas.delivery.markdown import markdown_text
from nas.delivery.results import ValidatedModel, mark, smaller
from nas.delivery.serving import runs_in, serve_section
from nas.evaluation.candidate import Candidate
from supernets.data.image_preprocessor import MODES
from supernets.pretrained.config_json import size_of
from supernets.settings import Kind
from supernets.tasks.classification import CLASSIFICATION
from supernets.tasks.task import Task

PILLOW_CODE = """\
import json
import numpy as np, onnxruntime
from PIL import Image, ImageOps

prep = json.load(open("preprocessor_config.json"))
image = ImageOps.exif_transpose(Image.open("image.png")).convert("{mode}")
image = image.resize((prep["size"]["width"], prep["size"]["height"]), prep["resample"])
{values}
inputs = {{"pixel_values": np.atleast_3d(pixels).transpose(2, 0, 1)[None]}}
logits = onnxruntime.InferenceSession("model.onnx").run(["logits"], inputs)[0]
"""

BYTES = "pixels = np.asarray(image, np.float32)"
RESCALE = 'pixels = (np.asarray(image) * prep["rescale_factor"]).astype(np.float32)'
NORMALISE = 'pixels = (pixels - np.float32(prep["image_mean"])) / np.float32(prep["image_std"])'

PROCESSOR_CODE = """\
import json
import numpy as np, onnxruntime
from PIL import Image, ImageOps
from transformers import AutoImageProcessor

image = ImageOps.exif_transpose(Image.open("image.png")).convert("{mode}")
processor = AutoImageProcessor.from_pretrained(".", backend="pil")
pixels = processor(image, return_tensors="np")["pixel_values"].astype(np.float32)
logits = onnxruntime.InferenceSession("model.onnx").run(["logits"], {{"pixel_values": pixels}})[0]
"""

TEXT_CODE = """\
import json
import numpy as np, onnxruntime
from tokenizers import Tokenizer

{text}
values = dict(
    input_ids=text.ids, attention_mask=text.attention_mask, token_type_ids=text.type_ids
)
session = onnxruntime.InferenceSession("model.onnx")
inputs = {{i.name: np.array([values[i.name]], np.int64) for i in session.get_inputs()}}
{output} = session.run(["{output}"], inputs)[0]
"""

BOTH_CODE = """\
import json
import numpy as np, onnxruntime
from PIL import Image, ImageOps
from tokenizers import Tokenizer
{more}

def prepared(file):
    image = ImageOps.exif_transpose(Image.open(file)).convert("{mode}")
{steps}


text = Tokenizer.from_file("tokenizer.json").encode("the text about it")
inputs = dict(
    pixel_values={pixels},
    input_ids=np.array([text.ids]),
    attention_mask=np.array([text.attention_mask]),
)
logits = onnxruntime.InferenceSession("model.onnx").run(["logits"], inputs)[0]
"""
RESIZE = """\
prep = json.load(open("preprocessor_config.json"))
image = image.resize((prep["size"]["width"], prep["size"]["height"]), prep["resample"])"""
CHANNELS_FIRST = "return np.atleast_3d(pixels).transpose(2, 0, 1)"
PROCESSOR_IMPORT = "from transformers import AutoImageProcessor\n"
PROCESSED = [
    'processor = AutoImageProcessor.from_pretrained(".", backend="pil")',
    'return processor(image, return_tensors="np")["pixel_values"][0].astype(np.float32)',
]
TWO_IMAGES = 'np.stack([prepared("left.png"), prepared("right.png")])[None]'

TOKENIZER = 'Tokenizer.from_file("tokenizer.json")'
VOCABULARY_NOTE = (
    "The tokenizer keeps the pieces that the training texts use most, with ids of its own: use the "
    "tokenizer files of this folder alone. Other words are written in smaller pieces."
)
ONE_TEXT = f'text = {TOKENIZER}.encode("the sentence to look at")'
PAIR = f'text = {TOKENIZER}.encode("the first text", "the second text")'
WORDS = f"""words = "the words to tag".split()
text = {TOKENIZER}.encode(words, is_pretokenized=True)"""


def model_card(
    name: str,
    candidate: Candidate,
    config: Mapping[str, Any],
    preprocessing: Mapping[str, Any] | None,
    measured: ValidatedModel | None,
    folder: Path | None = None,
    metric: str = "accuracy",
    task: Task = CLASSIFICATION,
    sample: Sequence[Kind] = (),
    vocabulary: Sequence[str] = (),
) -> str:
    """Markdown: what the model is, what was measured, how to run it in plain ONNX Runtime.

    config, preprocessing: what config.json and preprocessor_config.json hold; the latter is None
    for texts. folder: of the model, which says for which servers it is laid out. metric: in words.
    task: whose answers the code prints. sample: what the model is given of one, images or texts by
    the files if it is not said. vocabulary: what a smaller one costs, in lines.
    """
    sample = sample or (("text",) if preprocessing is None else ("image",))
    lines = [f"# {markdown_text(name)}", "", _composition(candidate), ""]
    if measured is not None:
        lines += [*_measurements(measured, metric), ""]
    lines += [
        "## Run it",
        "",
        *([known, ""] if (known := runs_in(measured.agreements if measured else ())) else []),
        "```python",
        (_to_outputs(config, preprocessing, task, sample) + task.answer_code).rstrip(),
        "```",
        "",
        *serve_section(name, config, sample, folder, task),
    ]
    if vocabulary:
        told = [f"- {markdown_text(line)}" for line in vocabulary]
        lines += ["## Vocabulary", "", VOCABULARY_NOTE, "", *told, ""]
    sizes = [f"| {markdown_text(gene)} | {value} |" for gene, value in candidate.architecture]
    lines += ["## Architecture", "", "| gene | value |", "|---|---|", *sizes, ""]
    lines += ["`policy.json` holds the precision of every layer.", ""]
    return "\n".join(lines)


def _to_outputs(
    config: Mapping[str, Any],
    preprocessing: Mapping[str, Any] | None,
    task: Task,
    sample: Sequence[Kind],
) -> str:
    """Code from a sample to the model's outputs; with Pillow and NumPy alone where images are only
    resized, scaled and normalised."""
    if preprocessing is None:
        pair = task.pair and not task.taught_alone  # an embedder learns from pairs of texts
        text = WORDS if task.reads == "tokens" else PAIR if pair else ONE_TEXT
        return TEXT_CODE.format(text=text, output=task.outputs[0])
    mode = MODES[size_of(config, "channels")]
    plain = is_plainly_resized(preprocessing)
    values = _values(preprocessing) if plain else []
    if "text" not in sample:
        code = PILLOW_CODE if plain else PROCESSOR_CODE
        return code.format(mode=mode, values="\n".join(values))
    steps = [RESIZE, *values, CHANNELS_FIRST] if plain else PROCESSED
    pixels = 'prepared("image.png")[None]' if sample.count("image") == 1 else TWO_IMAGES
    return BOTH_CODE.format(
        more="" if plain else PROCESSOR_IMPORT,
        mode=mode,
        steps=indent("\n".join(steps), " " * 4),
        pixels=pixels,
    )


def _values(preprocessing: Mapping[str, Any]) -> list[str]:
    """Lines that scale and normalise the bytes of an image."""
    values = [RESCALE if preprocessing["do_rescale"] else BYTES]
    return [*values, NORMALISE] if preprocessing["do_normalize"] else values


def is_plainly_resized(preprocessing: Mapping[str, Any]) -> bool:
    """Whether images are only resized, scaled and normalised."""
    resized = preprocessing["do_resize"] and {"height", "width"} == set(preprocessing["size"])
    cut = preprocessing.get("do_center_crop") or preprocessing.get("do_pad")
    return preprocessing["image_processor_type"] == "ViTImageProcessor" and resized and not cut


def _composition(candidate: Candidate) -> str:
    counts: dict[str, int] = {}
    for precision in candidate.policy.values():
        counts[precision.name] = counts.get(precision.name, 0) + 1
    parts = ", ".join(f"{count} {precision}" for precision, count in sorted(counts.items()))
    return f"An ONNX model found by simqnas (candidate `{candidate.key}`). Layers: {parts}."


def _milliseconds(what: str, quartiles: tuple[float, float, float], disturbed: bool) -> str:
    median, low, high = quartiles
    return f"| {what} | {median:.3f} ms (quartiles {low:.3f} to {high:.3f}){mark(disturbed)} |"


def _measurements(model: ValidatedModel, metric: str) -> list[str]:
    lines = [
        "| measured | |",
        "|---|---|",
        f"| test {metric} | {model.test_score:.4f} |",
        f"| validation {metric} | {model.validation_score:.4f} |",
        _milliseconds("latency", model.latency_ms, model.latency_disturbed),
    ]
    if (whole := model.end_to_end_ms) is not None:
        what = "end-to-end latency, preprocessing included"
        lines.append(_milliseconds(what, whole, model.end_to_end_disturbed))
    lines += [
        f"| file | {model.size_bytes:,} bytes |",
        f"| quantized | {markdown_text(model.coverage)} |",
    ]
    if (promise := model.promise) is not None:
        lines.append(
            f"| expected on test against the reference in low precision | {promise.expected:+.4f} "
            f"(95 % interval {promise.expected_low:+.4f} to {promise.expected_high:+.4f}) |"
        )
    for name, versus in model.versus.items():
        lines.append(
            f"| against {markdown_text(name)} | {versus.latency_ratio:.2f}x faster"
            f"{mark(versus.latency_disturbed)}, "
            f"{smaller(versus.size_ratio)}, test {metric} {versus.score_difference:+.4f} |"
        )
    return lines
