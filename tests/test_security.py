"""What others wrote is shown, not run, and nothing is written outside the run folder."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from rich.console import Console
from safetensors.torch import save_file
from transformers import BertTokenizerFast  # type: ignore[attr-defined] # loaded lazily

from hardware.formats.int8 import INT8
from hardware.formats.policy import QuantPolicy
from nas.delivery.model_card import model_card
from nas.delivery.results import Front, ValidatedModel, Versus, read_front
from nas.evaluation.candidate import Candidate
from nas.evaluation.record import Evaluation
from nas.experiment.database_url import masked, without_password
from nas.experiment.schema import Experiment
from nas.ledger.storage import StorageError, open_storage
from nas.reporting.facts import Report
from nas.reporting.markdown_report import markdown
from nas.reporting.page import html
from nas.reporting.report import write_report
from nas.run.progress import rich_reporter
from nas.run.run_folder import RunFolder, RunFolderError, write_json
from supernets.data.hf_datasets import open_tables
from supernets.data.image_preprocessor import read_preprocessor
from supernets.data.text import TextPreprocessor
from supernets.data.vocabulary.tokenizer import read_tokenizer
from supernets.families.hugging_face import CheckpointError
from supernets.pretrained.checkpoint import open_checkpoint
from supernets.settings import DataSettings
from tests.faults.victim import EXPERIMENT
from tests.test_layers import SOURCES

HOSTILE = "<script>alert(1)</script> [x](javascript:alert(1)) ![y](http://z) | `c` \n# d"


def hostile_model(name: str) -> ValidatedModel:
    policy = QuantPolicy({HOSTILE: INT8})
    return ValidatedModel(
        name=name,
        role="reference" if name == "int8" else "front",
        candidate=Candidate(((HOSTILE, 1),), policy),
        validation_score=0.5,
        test_score=0.5,
        latency_ms=(1.0, 1.0, 1.0),
        size_bytes=1,
        coverage=HOSTILE,
        versus={"int8": Versus(0.0, 1.0, 1.0, 1.0, 1.0)},
    )


class Tags(HTMLParser):
    """Collects the text of scripts and every other tag's name."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self._inside = tag == "script"

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.scripts.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._inside = False


@pytest.fixture
def hostile_report() -> Report:
    models = (hostile_model(HOSTILE), hostile_model("int8"))
    conditions = {HOSTILE: {HOSTILE: [HOSTILE]}}
    front = Front(models, HOSTILE, 2, conditions)
    metrics = {"accuracy": 0.5, "latency_ms": 1.0, "size_bytes": 1.0}
    known = [Evaluation(model.candidate, metrics) for model in models]
    return Report(HOSTILE, front, known, [], finished=True)


def test_the_html_report_escapes_everything(hostile_report: Report) -> None:
    page = html(hostile_report)
    assert HOSTILE.split()[0] not in page
    tags = Tags()
    tags.feed(page)
    assert not [script for script in tags.scripts if script.startswith("alert(1)")]


def assert_escaped(text: str) -> None:
    """No tag, no link, no image, no cell and no heading of the hostile text is left."""
    assert "<script" not in text
    assert "[x](" not in text
    assert "![y](" not in text
    assert "\n# d" not in text
    assert " | `c`" not in text


def test_the_markdown_report_escapes_everything(hostile_report: Report) -> None:
    front = replace(hostile_report.front, recommended="int8")  # its sentence quotes a checked name
    assert_escaped(markdown(replace(hostile_report, front=front)))


def test_model_cards_escape_everything() -> None:
    model = replace(hostile_model(HOSTILE), versus={HOSTILE: Versus(0.0, 1.0, 1.0, 1.0, 1.0)})
    assert_escaped(model_card(HOSTILE, model.candidate, {}, None, model))


def test_messages_neither_steer_the_terminal_nor_are_styled() -> None:
    out = StringIO()
    with rich_reporter(Console(file=out, force_terminal=True, width=200)) as reporter:
        reporter.say("label [red]\x1b]0;title\x07\x1b[2J")
    assert "[red]" in out.getvalue()
    assert "\x1b]0;" not in out.getvalue()
    assert "\x1b[2J" not in out.getvalue()


@pytest.mark.parametrize("name", ["../x", "/abs", "..", "a/b", "a\\b", ".hidden", "a\n", ""])
def test_an_experiment_cannot_be_named_after_a_path(name: str) -> None:
    with pytest.raises(ValidationError):
        Experiment.model_validate({**EXPERIMENT, "name": name})


@pytest.mark.parametrize("name", ["../../outside", "/outside", "..", "a/b"])
def test_models_of_a_front_cannot_lie_outside(tmp_path: Path, name: str) -> None:
    folder = RunFolder(tmp_path)
    front = Front((hostile_model(name),), name, 1, {})
    write_json(folder.front, front.to_json())
    with pytest.raises(RunFolderError, match="model key"):
        read_front(folder)


@pytest.mark.parametrize("place", ["report.md.part", "models", "supernet/model.safetensors"])
def test_links_in_a_run_folder_are_refused(tmp_path: Path, place: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("kept")
    folder = RunFolder(tmp_path / "run")
    folder.supernet.mkdir(parents=True)
    (folder.path / place).symlink_to(outside / "precious" if "." in place else outside)
    with pytest.raises(RunFolderError, match="is a link"), folder.locked():
        pass
    with pytest.raises(RunFolderError, match="is a link"):
        write_report(folder)
    assert (outside / "precious").read_text() == "kept"


def test_the_run_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    with RunFolder(tmp_path / "run").locked():
        pass


def test_weights_outside_a_checkpoint_are_not_read(tmp_path: Path) -> None:
    save_file({"secret": torch.ones(1)}, tmp_path / "outside.safetensors")
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    (checkpoint / "config.json").write_text("{}")
    index = {"weight_map": {"secret": "../outside.safetensors"}}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError):
        open_checkpoint(str(checkpoint)).weights()


TRAP = "from pathlib import Path\nPath(__file__).with_name('sprung').touch()\n"


@pytest.fixture
def tokenizer_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "word"]
    BertTokenizerFast({word: i for i, word in enumerate(words)}).save_pretrained(folder)
    (folder / "trap.py").write_text(TRAP + "class Trap: pass\n")
    return folder


def set_tokenizer(folder: Path, **keys: object) -> None:
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **keys}))


AUTO_MAP = {"AutoTokenizer": ["trap.Trap", "trap.Trap"]}


def test_code_of_a_checkpoint_is_not_run(
    tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even by somebody who answers yes to transformers' question."""
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    (tokenizer_folder / "config.json").unlink(missing_ok=True)
    set_tokenizer(tokenizer_folder, auto_map=AUTO_MAP, tokenizer_class="Trap")
    with pytest.raises(ValueError, match="never run"):
        read_tokenizer(tokenizer_folder)
    assert not list(tmp_path.rglob("sprung"))


def test_what_could_run_code_later_is_not_exported(tokenizer_folder: Path, tmp_path: Path) -> None:
    (tokenizer_folder / "config.json").write_text('{"model_type": "bert"}')
    set_tokenizer(tokenizer_folder, auto_map=AUTO_MAP)
    file = tokenizer_folder / "preprocessor_config.json"
    image = {"size": 8, "auto_map": {"AutoImageProcessor": "trap.Trap"}}
    file.write_text(json.dumps(image))
    with pytest.raises(ValueError, match="never run"):
        read_preprocessor(tokenizer_folder, None)
    file.write_text(json.dumps({**image, "image_processor_type": "ViTImageProcessor"}))
    out = tmp_path / "out"
    out.mkdir()
    TextPreprocessor(read_tokenizer(tokenizer_folder), 8).save(out)
    read_preprocessor(tokenizer_folder, None).save(out)
    assert not [path for path in out.iterdir() if "auto_map" in path.read_text()]


def test_templates_of_a_tokenizer_cannot_be_written_elsewhere(
    tokenizer_folder: Path, tmp_path: Path
) -> None:
    (tokenizer_folder / "config.json").write_text('{"model_type": "bert"}')
    templates = [{"name": "default", "template": "x"}, {"name": "../../evil", "template": "x"}]
    set_tokenizer(tokenizer_folder, chat_template=templates)
    out = tmp_path / "run" / "model"
    out.mkdir(parents=True)
    TextPreprocessor(read_tokenizer(tokenizer_folder), 8).save(out)
    assert not list(tmp_path.rglob("*evil*"))


def test_code_of_a_data_set_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "trap"
    folder.mkdir()
    (folder / "trap.py").write_text(TRAP)
    rows = "\n".join(f"text {i},{i % 2}" for i in range(20))
    (folder / "train.csv").write_text(f"text,label\n{rows}\n")
    with suppress(ValueError):  # older versions of datasets refuse the folder
        open_tables(DataSettings(name=str(folder)), "text")
    assert not list(tmp_path.rglob("sprung"))


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:sec ret@host/db",
        "postgresql://me:sec/ret@host/db",
        "postgresql://host/db?user=me&password=sec-ret",
        "mysql://host/db?passwd=sec-ret&charset=utf8",
        "postgresql://me:sec@ret@host:port/db",
    ],
)
def test_passwords_in_unusual_places_are_hidden(url: str, tmp_path: Path) -> None:
    for text in (masked(url), without_password(url)):
        assert "sec" not in text
        assert "ret" not in text
        assert "host" in text
    with pytest.raises(StorageError) as caught:
        open_storage(url.replace("@host", "@127.0.0.1:x"), tmp_path / "journal")
    assert "sec" not in str(caught.value)


def calls(path: Path) -> Iterator[tuple[str, dict[str, str], int]]:
    """Every call of a file: what is called, its keyword arguments, the line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            keywords = {k.arg: ast.unparse(k.value) for k in node.keywords if k.arg}
            yield ast.unparse(node.func), keywords, node.lineno


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_nothing_read_from_a_file_can_run(path: Path) -> None:
    """No pickle in any form, no code from a checkpoint or a data set."""
    modules = {"pickle", "dill", "joblib", "cloudpickle", "shelve", "marshal"}
    for name, keywords, line in calls(path):
        where = f"{path.name}:{line}: {name}"
        assert name.partition(".")[0] not in modules, where
        assert name not in {"eval", "exec", "torch.load", "yaml.unsafe_load"}, where
        assert keywords.get("trust_remote_code", "False") == "False", where
        if name in {"np.load", "numpy.load"}:
            assert keywords.get("allow_pickle") == "False", where
        if name == "yaml.load":
            assert "_StrictLoader" in keywords["Loader"], where


def test_nothing_is_told_to_anybody() -> None:
    """Libraries are told so before anything imports them: ONNX Runtime reads it as it loads."""
    code = (
        "import sys, cli; sys.argv = ['simqnas', '--help']\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        "from huggingface_hub import constants\n"
        "assert constants.HF_HUB_DISABLE_TELEMETRY\n"
        "import onnxruntime\n"
    )
    root = Path(__file__).parents[1]
    shown = subprocess.run(
        [sys.executable, "-c", code],
        check=True, cwd=root, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        env={**os.environ, "HOME": os.devnull},  # where its identifier of the device would lie
    )  # fmt: skip
    assert "telemetry" not in shown.stderr.lower()
