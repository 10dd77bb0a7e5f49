"""What is shipped for texts about images is what was measured, opened as its users open it."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image
from transformers import AutoImageProcessor, AutoTokenizer

from hardware.formats.int8 import INT8
from hardware.formats.scheme import QuantScheme
from hardware.graph.export import Template
from hardware.portability.agreement import verify_folder
from hardware.session import open_session
from hardware.target import Target
from nas.delivery.exporter import Exporter
from nas.delivery.model_card import model_card
from nas.delivery.requests import preparation
from nas.evaluation.candidate import Candidate
from nas.evaluation.candidate_builder import CandidateBuilder, template_of
from nas.evaluation.fake_quant_score import FakeQuantScore
from nas.evaluation.score_meter import RuntimeScore
from supernets.data.account import TextAboutImages
from supernets.data.data import TaskData, calibration_batches
from supernets.load import load_data, load_supernet
from supernets.metrics.classes import ACCURACY
from supernets.model_settings import ModelSettings
from supernets.settings import DataSettings, SpaceSettings
from tests.sample_images import content
from tests.sample_networks import BEIT3

WORDS = ("is", "it", "a", "red", "blue", "thing", "in", "the", "picture")
ROWS = 24


def picture(rng: np.random.Generator) -> bytes:
    return content(Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)))


def folder_of_data(path: Path, images: int) -> Path:
    path.mkdir()
    for number, split in enumerate(("train", "validation", "test")):
        rng = np.random.default_rng(number)
        columns: dict[str, Any] = {
            f"image_{place}": [{"bytes": picture(rng), "path": None} for _ in range(ROWS)]
            for place in range(images)
        }
        texts = [" ".join(rng.choice(WORDS, rng.integers(1, 9))) for _ in range(ROWS)]
        texts[0] = " ".join(rng.choice(WORDS, 40))
        labels = ["no", "yes"] * (ROWS // 2)
        pq.write_table(
            pa.table({**columns, "question": texts, "label": labels}), path / f"{split}.parquet"
        )
    return path


def read(folder: Path, data: TaskData, row: int, way: str) -> NDArray[np.float32]:
    """Logits of a row of the test split, prepared in one of the ways there are."""
    sample = data.source.splits["test"].sample(row)
    assert isinstance(sample, TextAboutImages)
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    encoded = tokenizer(sample.text, truncation=True, return_tensors="np")
    shape: Any = {name: encoded[name] for name in ("input_ids", "attention_mask")}
    two = len(sample.images) > 1
    shape["pixel_values"] = np.zeros((1, *([2] if two else []), 3, 16, 16))
    logits: NDArray[np.float32]
    if way == "card":
        code = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
        names_of = ("left", "right") if two else ("image",)
        for name, content in zip(names_of, sample.images, strict=True):
            (folder / f"{name}.png").write_bytes(content)
        names: dict[str, Any] = {}
        with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()):
            exec(code.replace("the text about it", sample.text), names)  # noqa: S102 # as users do
        logits = names["logits"]
        return logits
    if way == "request":
        inputs = preparation(folder, shape)([sample])
    else:
        pictures = [Image.open(io.BytesIO(content)) for content in sample.images]
        processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
        pixels = processor(pictures, return_tensors="np")["pixel_values"]
        inputs = {**shape, "pixel_values": pixels[None] if two else pixels}
    logits = session.run(["logits"], inputs)[0]
    return logits


@pytest.mark.parametrize(
    ("images", "resolution"), [(1, 8), pytest.param(2, 16, marks=pytest.mark.slow)]
)
def test_the_shipped_folder_answers_as_measured(
    images: int, resolution: int, tmp_path: Path
) -> None:
    settings = ModelSettings.from_scratch(BEIT3)
    columns = None if images == 1 else ("image_0", "image_1")
    data_settings = DataSettings(
        name=str(folder_of_data(tmp_path / "data", images)), image_column=columns
    )
    data = load_data(data_settings, settings)
    network = load_supernet(settings, data, 0).network
    space = network.space(SpaceSettings.model_validate({"resolution": (0.5, 1.0)}))
    template: Template = template_of(network, space)
    calibration = calibration_batches(data.train, samples=16)
    builder = CandidateBuilder(network, space, template, QuantScheme(), calibration)
    whole = builder.uniform(space.largest(), INT8)
    genes = {**dict(whole.architecture), "resolution": resolution}
    candidate = Candidate(tuple(sorted(genes.items())), whole.policy)
    out = tmp_path / "shipped"
    Exporter(builder, data).write(candidate, out)
    config, prep = (
        json.loads((out / f"{name}.json").read_text()) for name in ("config", "preprocessor_config")
    )
    card = model_card("a", candidate, config, prep, None, sample=network.config.sample)
    (out / "README.md").write_text(card)
    session = open_session(out / "model.onnx", Target())
    answers = RuntimeScore(builder, data.test).of_session(session, candidate)
    found = {
        way: np.concatenate([read(out, data, row, way) for row in range(ROWS)])
        for way in ("clients", "card", "request")
    }
    for logits in found.values():
        np.testing.assert_allclose(logits, found["clients"], atol=1e-5)
    labels = np.arange(ROWS) % 2
    measured = float((found["clients"].argmax(axis=1) == labels).mean())
    assert measured == answers.score(ACCURACY)
    twin = FakeQuantScore(builder, data.test).predictions(builder.build(candidate))
    ours, theirs = np.asarray(twin.rows[0]), np.asarray(answers.rows[0])
    np.testing.assert_allclose(ours, theirs, atol=0.03)
    assert all(row.agrees for row in verify_folder(out, ()))
