"""What is shipped for texts is what was measured, opened as its users open it."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
)

from hardware.formats.fp32 import FP32
from hardware.formats.scheme import QuantScheme
from hardware.session import open_session
from hardware.target import Target
from nas.delivery.exporter import Exporter
from nas.delivery.model_card import model_card
from nas.evaluation.candidate_builder import CandidateBuilder, template_of
from nas.evaluation.score_meter import RuntimeScore
from supernets.data.data import calibration_batches
from supernets.data.text import train_tokenizer
from supernets.load import load_data, load_supernet
from supernets.metrics.classes import ACCURACY
from supernets.model_settings import ModelSettings
from supernets.settings import DataSettings, SpaceSettings

SIZES: dict[str, Any] = {
    "vocab_size": 80,
    "max_position_embeddings": 24,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "num_labels": 2,
}
MODELS: dict[str, Callable[[], Any]] = {
    "bert": lambda: BertForSequenceClassification(BertConfig(**SIZES)),
    "distilbert": lambda: DistilBertForSequenceClassification(
        DistilBertConfig(**SIZES, hidden_dim=32)
    ),
}
WORDS = ("good", "bad", "film", "Plot", "the", "a", "dull", "bright", "never", "it")


def texts(count: int, seed: int) -> list[tuple[str, str]]:
    """Random words of different numbers, one text longer than the model can take."""
    rng = np.random.default_rng(seed)
    rows = [" ".join(rng.choice(WORDS, rng.integers(1, 12))) for _ in range(count)]
    rows[0] = " ".join(rng.choice(WORDS, 60))
    return [(row, str(rng.choice(["no", "yes"]))) for row in rows]


def folder_of_data(path: Path) -> Path:
    path.mkdir()
    for number, split in enumerate(("train", "validation", "test")):
        with (path / f"{split}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label"])
            writer.writerows(texts(24, number))
    return path


def checkpoint(path: Path, family: str) -> Path:
    torch.manual_seed(0)
    model = MODELS[family]()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.5 * torch.randn_like(parameter)
    model.save_pretrained(path)
    inputs = ["input_ids", "attention_mask"]
    tokenizer = train_tokenizer([text for text, _ in texts(24, 0)], SIZES["vocab_size"], inputs)
    tokenizer.save_pretrained(path)
    return path


def by_card(folder: Path, text: str) -> NDArray[np.float32]:
    """Logits of the code that the model card prints, for another text."""
    code = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
    names: dict[str, Any] = {}
    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()):
        exec(code.replace("the sentence to classify", text), names)  # noqa: S102 # as users do
    logits: NDArray[np.float32] = names["logits"]
    return logits


def by_tokenizer(folder: Path, text: str) -> NDArray[np.float32]:
    """Logits as transformers' tokenizer and plain ONNX Runtime give them."""
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    encoded = AutoTokenizer.from_pretrained(folder)(text, truncation=True, return_tensors="np")
    names = [value.name for value in session.get_inputs()]
    rows = {"token_type_ids": np.zeros_like(encoded["input_ids"]), **encoded}
    logits: NDArray[np.float32] = session.run(
        ["logits"], {name: rows[name].astype(np.int64) for name in names}
    )[0]
    return logits


@pytest.mark.parametrize("family", MODELS)
def test_the_shipped_folder_classifies_as_measured(family: str, tmp_path: Path) -> None:
    settings = ModelSettings(checkpoint=str(checkpoint(tmp_path / "model", family)), head="keep")
    data = load_data(DataSettings(name=str(folder_of_data(tmp_path / "data"))), settings)
    network = load_supernet(settings, data, 0).network
    genes = network.space(SpaceSettings())
    calibration = calibration_batches(data.train, samples=16)
    template = template_of(network, genes)
    builder = CandidateBuilder(network, genes, template, QuantScheme(), calibration)
    candidate, out = builder.uniform(genes.largest(), FP32), tmp_path / "shipped"
    Exporter(builder, data).write(candidate, out)
    config = json.loads((out / "config.json").read_text())
    (out / "README.md").write_text(model_card("a", candidate, config, None, None))
    session = open_session(out / "model.onnx", Target())
    measured = RuntimeScore(builder, data.test).of_session(session, candidate).score(ACCURACY)
    rows = texts(24, 2)
    found = {
        way.__name__: np.concatenate([way(out, text) for text, _ in rows])
        for way in (by_tokenizer, by_card)
    }
    labels = np.array([data.label_names.index(label) for _, label in rows])
    assert len(set(found["by_tokenizer"].argmax(axis=1))) > 1, "one answer to all shows little"
    for logits in found.values():
        np.testing.assert_allclose(logits, found["by_tokenizer"], atol=1e-5)
        assert float((logits.argmax(axis=1) == labels).mean()) == measured
