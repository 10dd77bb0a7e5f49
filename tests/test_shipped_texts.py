"""What is shipped for texts is what was measured, opened as its users open it."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    DebertaV2Tokenizer,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
    RobertaTokenizer,
)

from hardware.formats.fp32 import FP32
from hardware.formats.scheme import QuantScheme
from hardware.session import open_session
from hardware.target import Target
from nas.delivery.exporter import Exporter
from nas.delivery.model_card import model_card
from nas.delivery.requests import preparation
from nas.evaluation.candidate_builder import CandidateBuilder, template_of
from nas.evaluation.score_meter import RuntimeScore
from supernets.data.data import calibration_batches
from supernets.data.vocabulary.tokenizer import train_tokenizer
from supernets.load import load_data, load_supernet, order_pieces
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
    "roberta": lambda: RobertaForSequenceClassification(
        RobertaConfig(**{**SIZES, "max_position_embeddings": 26, "type_vocab_size": 1})
    ),
    "deberta": lambda: DebertaV2ForSequenceClassification(
        DebertaV2Config(**SIZES, relative_attention=True, pos_att_type="c2p|p2c")
    ),
}
VOCABULARIES = (0.7, 1.0)
"""Of one space: a graph serves both."""

ASKED = 12
"""Texts of which every way of opening the folder is asked."""

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
            writer.writerows(texts(24 if split == "train" else ASKED, number))
    return path


def checkpoint(path: Path, family: str) -> Path:
    torch.manual_seed(0)
    model = MODELS[family]()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.5 * torch.randn_like(parameter)
    seen = [text for text, _ in texts(24, 0)]
    tokenizer = TOKENIZERS.get(family, word_pieces)(seen)
    tokenizer.save_pretrained(path)
    heads = [m for m in model.modules() if getattr(m, "out_features", 0) == SIZES["num_labels"]]
    rows = tokenizer(seen, padding=True, truncation=True, max_length=24, return_tensors="pt")
    with torch.no_grad():  # so that not all texts are of one class
        heads[-1].bias -= model.eval()(rows["input_ids"], rows["attention_mask"]).logits.mean(dim=0)
    model.save_pretrained(path)
    return path


def word_pieces(seen: Sequence[str]) -> Any:
    """As BERT's."""
    return train_tokenizer(seen, SIZES["vocab_size"], ["input_ids", "attention_mask"])


def bytes_in_pairs(seen: Sequence[str]) -> Any:
    """As RoBERTa's: byte-level BPE, padding is 1."""
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    learner.train_from_iterator(
        seen,
        trainers.BpeTrainer(
            vocab_size=SIZES["vocab_size"], special_tokens=special, show_progress=False
        ),
    )
    learned = json.loads(learner.to_str())["model"]
    merges: Any = [tuple(pair) for pair in learned["merges"]]
    return RobertaTokenizer(vocab=learned["vocab"], merges=merges)


def likely_pieces(seen: Sequence[str]) -> Any:
    """As DeBERTa v3's: pieces of a unigram model, as SentencePiece learns them."""
    learner = Tokenizer(models.Unigram())
    learner.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
    learner.train_from_iterator(
        seen,
        trainers.UnigramTrainer(
            vocab_size=60, special_tokens=special, unk_token=special[3], show_progress=False
        ),
    )
    learned = json.loads(learner.to_str())["model"]["vocab"]
    return DebertaV2Tokenizer(vocab=list(map(tuple, learned)))


TOKENIZERS = {"roberta": bytes_in_pairs, "deberta": likely_pieces}


def by_card(folder: Path, text: str) -> NDArray[np.float32]:
    """Logits of the code that the model card prints, for another text."""
    code = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
    names: dict[str, Any] = {}
    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()):
        exec(code.replace("the sentence to look at", text), names)  # noqa: S102 # as users do
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


def by_request(folder: Path, text: str) -> NDArray[np.float32]:
    """Logits of what is timed as a whole request, padded to 24 tokens."""
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    shape = {value.name: np.zeros((1, 24), np.int64) for value in session.get_inputs()}
    logits: NDArray[np.float32] = session.run(["logits"], preparation(folder, shape)([text]))[0]
    return logits


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
@pytest.mark.parametrize("family", MODELS)
def test_the_shipped_folder_classifies_as_measured(
    family: str, vocabulary: float, tmp_path: Path
) -> None:
    settings = ModelSettings(checkpoint=str(checkpoint(tmp_path / "model", family)), head="keep")
    data = load_data(DataSettings(name=str(folder_of_data(tmp_path / "data"))), settings)
    network = load_supernet(settings, data, 0).network
    genes = network.space(SpaceSettings.model_validate({"vocabulary": VOCABULARIES}))
    order_pieces(network, genes, data)
    calibration = calibration_batches(data.train, samples=16)
    template = template_of(network, genes)
    builder = CandidateBuilder(
        network, genes, template, QuantScheme(), calibration, train=data.train
    )
    genome, out = genes.largest(), tmp_path / "shipped"
    genome[genes.column["vocabulary"]] = VOCABULARIES.index(vocabulary)
    candidate = builder.uniform(genome, FP32)
    Exporter(builder, data).write(candidate, out)
    config = json.loads((out / "config.json").read_text())
    assert config["vocab_size"] == round(80 * vocabulary)
    opened = AutoTokenizer.from_pretrained(out)
    assert config.get("pad_token_id", opened.pad_token_id) == opened.pad_token_id
    seen = data.test.seen_by(dict(candidate.architecture))
    for batch, (text, _) in zip(seen.batches(1), texts(ASKED, 2), strict=True):
        ids = builder.inputs(candidate, batch.inputs)["input_ids"][0]
        assert opened(text, truncation=True)["input_ids"] == ids.tolist()
    (out / "README.md").write_text(model_card("a", candidate, config, None, None))
    session = open_session(out / "model.onnx", Target())
    measured = RuntimeScore(builder, data.test).of_session(session, candidate).score(ACCURACY)
    rows = texts(ASKED, 2)
    sample = data.source.splits["test"].sample
    assert [sample(row) for row in range(ASKED)] == [text for text, _ in rows]
    found = {
        way.__name__: np.concatenate([way(out, text) for text, _ in rows])
        for way in (by_tokenizer, by_card, by_request)
    }
    labels = np.array([data.label_names.index(label) for _, label in rows])
    assert len(set(found["by_tokenizer"].argmax(axis=1))) > 1, "one answer to all shows little"
    for logits in found.values():
        np.testing.assert_allclose(logits, found["by_tokenizer"], atol=1e-5)
        assert float((logits.argmax(axis=1) == labels).mean()) == measured
