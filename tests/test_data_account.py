"""The account and the digest of data: counts add up, and what differs is said."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from hardware.files import writable_folder
from nas.experiment.load import load_experiment
from nas.run.data_record import DataRecord, read_account, record_of
from nas.run.run_folder import RunFolder, RunFolderError
from supernets.data.account import DataAccount, SplitAccount
from supernets.data.data import TaskData
from supernets.data.fingerprint import Contents
from supernets.data.targets.targets import hashes
from supernets.families.bert.config import BertConfig
from supernets.families.vit.config import VitConfig
from supernets.model_settings import ModelSettings
from supernets.open_data import load_data
from supernets.settings import DataSettings

BERT = ModelSettings.from_scratch(BertConfig(vocab_size=200, max_positions=8))
VIT = ModelSettings.from_scratch(VitConfig(image_size=8))
WORDS = ("good film", "bad film", "fine plot", "poor plot", "a much longer text about a film")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))


Pairs = list[tuple[str | None, str | None]]
Rows = dict[str, Pairs]


def write_rows(folder: Path, rows: Rows) -> Path:
    folder.mkdir(exist_ok=True, parents=True)
    for split, pairs in rows.items():
        lines = [json.dumps({"text": text, "label": label}) for text, label in pairs]
        (folder / f"{split}.jsonl").write_text("\n".join(lines))
    return folder


def texts(folder: Path, **settings: object) -> TaskData:
    return load_data(DataSettings.model_validate({"name": str(folder), **settings}), BERT)


def some_rows(n: int, tag: str = "") -> Pairs:
    return [(f"{WORDS[i % 4]} {tag}{i}", "yn"[i % 2]) for i in range(n)]


def contents(*labels: str, start: int = 0) -> Contents:
    names = sorted(set(labels))
    inputs = np.arange(start, start + len(labels), dtype=np.uint64)
    numbers = np.array([names.index(label) for label in labels])
    return Contents.of({"train": inputs}, hashes({"train": numbers}, names))


def test_rows_that_are_found_are_used_or_left_out(tmp_path: Path) -> None:
    train = [*some_rows(40), ("no label", None), (None, "y"), (None, None)]
    folder = write_rows(tmp_path, {"train": train, "test": some_rows(20, "t")})
    data = texts(folder, max_train=30, max_test=15)
    splits = data.source.account.splits
    assert splits["train"].left_out == {
        "without a label": 2,
        "without a text": 1,
        "beyond data.max_train": 6,
    }
    assert {name: (split.found, split.used) for name, split in splits.items()} == {
        "train": (39, 30),
        "validation": (4, 4),
        "test": (20, 15),
    }
    used = [len(split) for split in (data.train, data.validation, data.test)]
    assert used == [split.used for split in splits.values()]
    assert splits["train"].classes == {"n": 15, "y": 15}


def test_counts_that_do_not_add_up_are_a_fault_of_ours() -> None:
    with pytest.raises(AssertionError, match="10 rows found, 9 accounted for"):
        SplitAccount(10, {"without a label": 2}, {"a": 3, "b": 4})


def test_what_looks_wrong_is_said(tmp_path: Path) -> None:
    train: Pairs = [*some_rows(20), ("same", "y"), ("same", "n"), (WORDS[4], "y"), ("once", "rare")]
    rows: Rows = {
        "train": train,
        "validation": [("same", "y"), ("new", "n")],
        "test": [("new", "n")] * 3,
    }
    account = texts(write_rows(tmp_path, rows)).source.account
    assert list(account.remarks()) == [
        "texts of train cut at data.max_length: 1",
        "test has one class only ('n')",
        "classes with fewer rows than there are splits: 'rare'",
        "classes without a row in validation: 'rare'",
        "classes without a row in test: 'rare', 'y'",
        "rows of validation that are in train too: 1",
        "rows of test that are in validation too: 3",
        "inputs of train that have several labels: 1",
    ]
    assert DataAccount.from_json(json.loads(json.dumps(account.to_json()))) == account


def test_texts_that_just_fit_are_not_cut(tmp_path: Path) -> None:
    rows: Pairs = [("a b c d e f", "y"), ("a b c d e g", "n")]
    data = texts(write_rows(tmp_path, {"train": rows * 10}))
    assert max(text.shape[1] for text in data.train.texts) == 8  # type: ignore[attr-defined]
    assert data.source.account.splits["train"].cut == 0
    cut = texts(tmp_path, max_length=7)
    assert cut.source.account.splits["train"].cut == len(cut.train)


def test_digest_ignores_order_and_notices_everything_else(tmp_path: Path) -> None:
    rows = {"train": some_rows(20), "validation": some_rows(6, "v"), "test": some_rows(6, "t")}
    kept = texts(write_rows(tmp_path / "a", rows)).source.contents
    turned = {split: pairs[::-1] for split, pairs in rows.items()}
    assert kept.changes(texts(write_rows(tmp_path / "b", turned)).source.contents) == []
    changed = {**rows, "train": [*some_rows(20)[:-3], ("new", "y"), ("good film 0", "n")]}
    now = texts(write_rows(tmp_path / "c", changed)).source.contents
    assert kept.digest("train") != now.digest("train")
    assert kept.digest("test") == now.digest("test")
    assert kept.changes(now) == ["train: 2 rows more, 3 rows fewer"]


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (contents("a", "b", "a"), []),
        (contents("a", "b", "b"), ["train: 1 labels changed"]),
        (contents("a", "b", "a", "a"), ["train: 1 rows more"]),
        (contents("a", "b"), ["train: 1 rows fewer"]),
        (contents("x", "b", "x"), ["train: 2 labels changed"]),
        (contents("a", "b", "a", start=1), ["train: 1 rows more, 1 rows fewer, 2 labels changed"]),
    ],
)
def test_changes_are_counted(now: Contents, told: list[str]) -> None:
    then = contents("a", "b", "a")
    assert then.changes(now) == told
    assert Contents.from_bytes(then.to_bytes()).changes(now) == told


def test_rows_that_are_only_in_another_order_are_not_called_new(tmp_path: Path) -> None:
    rows = some_rows(40)
    kept = texts(write_rows(tmp_path / "a", {"train": rows})).source.contents
    turned = texts(write_rows(tmp_path / "b", {"train": rows[::-1]})).source.contents
    assert Contents.from_bytes(kept.to_bytes()).changes(turned) == [
        "the same rows in other splits: their order decides what is set aside"
    ]
    relabelled = [(text, "y") for text, _ in rows[:2]] + rows[2:]
    other = texts(write_rows(tmp_path / "c", {"train": relabelled[::-1]})).source.contents
    assert kept.changes(other)[0].startswith("train: ")


def test_fewer_samples_of_known_data_are_those_of_data_read_anew(tmp_path: Path) -> None:
    """Validation and test are set aside from one folder; images of train are not decoded again."""
    folder = draw(tmp_path, names=("cat", "dog", "newt"))
    settings = DataSettings(name=str(folder), holdout=0.3, kept_back=0)
    whole = load_data(settings, VIT)
    fewer = settings.model_copy(update={"max_validation": 4, "max_test": 5})
    anew, found = load_data(fewer, VIT), load_data(fewer, VIT, known=whole)
    assert found.train is whole.train
    for name, count in (("train", len(whole.train)), ("validation", 4), ("test", 5)):
        ours, theirs = getattr(found, name), getattr(anew, name)
        rows = torch.arange(count)
        assert len(ours) == len(theirs) == count
        one, other = (split.batch(rows) for split in (ours, theirs))
        assert torch.equal(one.inputs["pixel_values"], other.inputs["pixel_values"])
        assert torch.equal(one.labels, other.labels)
    assert found.source.account == anew.source.account
    assert found.source.contents.changes(anew.source.contents) == []


def test_a_damaged_archive_of_hashes_is_an_error() -> None:
    whole = contents("a").to_bytes()
    for content in (b"", b"no archive", whole[:-40]):
        with pytest.raises(ValueError, match="no archive of row hashes"):
            Contents.from_bytes(content)


def draw(folder: Path, names: tuple[str, ...] = ("cat", "dog"), seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    for name in names:
        (folder / name).mkdir(parents=True)
        for i in range(10):
            pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


def test_digest_of_images_is_that_of_their_files(tmp_path: Path) -> None:
    def read(folder: Path) -> Contents:
        return load_data(DataSettings(name=str(folder)), VIT).source.contents

    kept = read(draw(tmp_path / "a"))
    copy = draw(tmp_path / "b")
    assert kept.changes(read(copy)) == []
    (copy / "cat" / "0.png").write_bytes((copy / "dog" / "0.png").read_bytes())
    now = read(copy)
    (changed,) = [split for split in kept.inputs if kept.digest(split) != now.digest(split)]
    assert kept.changes(now)[0].startswith(f"{changed}: 1 rows more, 1 rows fewer")


def pack(source: Path, folder: Path) -> Path:
    """The same encoded images as one parquet file per split, in another order and without names."""
    for split in sorted(path for path in source.iterdir()):
        files = sorted(split.rglob("*.png"), reverse=True)
        images = [{"bytes": file.read_bytes(), "path": None} for file in files]
        columns = {"label": [file.parent.name for file in files], "image": images}
        pq.write_table(pa.table(columns), folder / f"{split.name}.parquet", row_group_size=7)
    return folder


def test_digest_of_images_is_the_same_however_they_are_stored(tmp_path: Path) -> None:
    for seed, split in enumerate(("train", "validation", "test")):
        draw(tmp_path / "folder" / split, seed=seed)
    # In another order on the disk:
    for path in sorted((tmp_path / "folder").rglob("*.png"), reverse=True):
        copy = tmp_path / "copy" / path.relative_to(tmp_path / "folder")
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.with_name(f"renamed-{99 - int(path.stem)}.png").write_bytes(path.read_bytes())
    (tmp_path / "packed").mkdir()
    packed = pack(tmp_path / "folder", tmp_path / "packed")
    kept, *others = (
        load_data(DataSettings(name=str(folder)), VIT).source.contents
        for folder in (tmp_path / "folder", tmp_path / "copy", packed)
    )
    for other in others:
        assert [kept.digest(s) for s in kept.inputs] == [other.digest(s) for s in kept.inputs]
        assert kept.changes(other) == []


def counted(monkeypatch: pytest.MonkeyPatch, module: object, name: str) -> list[Any]:
    """The first argument of every call of a function, from now on."""
    calls: list[Any] = []
    function = getattr(module, name)

    def call(first: Any, *rest: Any, **named: Any) -> Any:
        calls.append(first)
        return function(first, *rest, **named)

    monkeypatch.setattr(module, name, call)
    return calls


def test_every_image_and_the_checkpoint_are_hashed_once(
    tmp_path: Path, experiment_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed, split in enumerate(("train", "validation", "test")):
        draw(tmp_path / "images" / split, seed=seed)
    (tmp_path / "packed").mkdir()
    packed = pack(tmp_path / "images", tmp_path / "packed")
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    for name in ("model.safetensors", "config.json"):
        (checkpoint / name).write_text("{}")
    experiment = load_experiment(experiment_file(model={"checkpoint": str(checkpoint)}))
    data = load_data(DataSettings(name=str(packed)), VIT)
    opened = counted(monkeypatch, Image, "open")
    rows = counted(monkeypatch, hashlib, "blake2b")
    files = counted(monkeypatch, hashlib, "file_digest")
    first = record_of(experiment, data)
    images = sorted(path.read_bytes() for path in (tmp_path / "images").rglob("*.png"))
    assert sorted(rows) == sorted([*images, b"cat", b"dog"])
    assert opened == []
    for _ in range(2):
        again = record_of(experiment, data)
        assert again.contents is first.contents
        assert again.checkpoint == first.checkpoint
    assert len(rows) == len(images) + 2
    assert len(files) == 2
    (checkpoint / "config.json").write_text("{ }")
    assert record_of(experiment, data).checkpoint["config.json"] != first.checkpoint["config.json"]
    assert len(files) == 3


@pytest.mark.parametrize("name", ["digits", "pydoc"])
def test_built_in_data_keep_to_the_numbers_asked_for(name: str) -> None:
    most = {"max_train": 40, "max_validation": 30, "max_test": 20}
    model = VIT if name == "digits" else BERT
    settings = DataSettings(name=name, image_size=8)
    whole = load_data(settings, model).source
    data = load_data(settings.model_copy(update=most), model)
    assert [len(split) for split in (data.train, data.validation, data.test)] == [40, 30, 20]
    for split, count in zip(("train", "validation", "test"), (40, 30, 20), strict=True):
        account = data.source.account.splits[split]
        found = whole.account.splits[split].found
        assert account.found == found
        assert account.left_out == {f"beyond data.max_{split}": found - count}
        assert np.isin(data.source.contents.labelled[split], whole.contents.labelled[split]).all()
        share = [whole.account.splits[split].classes[n] / found for n in data.label_names]
        used = [account.classes[n] / count for n in data.label_names]
        np.testing.assert_allclose(used, share, atol=1 / count)


@pytest.mark.parametrize("name", ["digits", "pydoc"])
def test_built_in_data_are_accounted_for(name: str) -> None:
    settings, model = (
        DataSettings(name=name, image_size=8, kept_back=0),
        VIT if name == "digits" else BERT,
    )
    data = load_data(settings, model)
    used = [len(split) for split in (data.train, data.validation, data.test)]
    assert [split.used for split in data.source.account.splits.values()] == used
    again = load_data(settings, model).source.contents
    assert data.source.contents.changes(again) == []


# The run folder


def record(folder: Path, checkpoint: dict[str, str] | None = None) -> DataRecord:
    source = texts(folder).source
    return DataRecord(source.account, source.contents, checkpoint or {"model.safetensors": "1f"})


def test_a_run_on_other_data_is_refused_with_what_differs(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    rows = {"train": some_rows(20), "validation": some_rows(6, "v"), "test": some_rows(6, "t")}
    kept = record(write_rows(tmp_path / "a", rows))
    kept.refuse_changes(run)
    kept.keep(run)
    kept.refuse_changes(run)
    assert read_account(run) == kept.account
    more = {**rows, "train": [*some_rows(20), ("x", "maybe"), ("z", "maybe")]}
    other = record(write_rows(tmp_path / "b", more))
    with pytest.raises(RunFolderError, match="label names: new maybe; train: 2 rows more"):
        other.refuse_changes(run)
    weights = record(tmp_path / "a", {"model.safetensors": "2e"})
    with pytest.raises(RunFolderError, match=r"\(the checkpoint's model.safetensors differs\)"):
        weights.refuse_changes(run)
    run.rows.write_bytes(b"damaged")
    with pytest.raises(RunFolderError, match="new maybe; rows of train"):
        other.refuse_changes(run)
    run.data.write_text("{}")
    with pytest.raises(RunFolderError, match=r"data.json: damaged; delete it and run again"):
        kept.refuse_changes(run)


def test_swapped_names_and_the_ledger_of_other_data_are_refused(tmp_path: Path) -> None:
    kept = record(write_rows(tmp_path, {"train": some_rows(20)})).summary()
    now = record(tmp_path)
    now.refuse_other(None, "study")
    now.refuse_other(json.loads(json.dumps(kept)), "study")
    with pytest.raises(RunFolderError, match=r"study: .*label names: in another order"):
        now.refuse_other({**kept, "label_names": ["y", "n"]}, "study")
    with pytest.raises(RunFolderError, match=r"the checkpoint's vocab.txt is gone"):
        now.refuse_other({**kept, "checkpoint": {**kept["checkpoint"], "vocab.txt": "0"}}, "study")


def test_files_of_a_checkpoint_are_part_of_the_record(
    tmp_path: Path, experiment_file: Callable[..., Path]
) -> None:
    network = ModelSettings.from_scratch(VitConfig(image_size=8))
    data = load_data(DataSettings(name="digits"), network)
    for name in ("model.safetensors", "config.json", "preprocessor_config.json", "README.md"):
        (tmp_path / name).write_text("{}")
    experiment = load_experiment(experiment_file(model={"checkpoint": str(tmp_path)}))
    files = record_of(experiment, data).checkpoint
    assert set(files) == {"model.safetensors", "config.json", "preprocessor_config.json"}
    assert record_of(load_experiment(experiment_file()), data).checkpoint == {}


# Caches


def test_a_cache_that_cannot_be_written_is_said_once_and_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert writable_folder(tmp_path / "deep" / "er") == tmp_path / "deep" / "er"
    blocked = tmp_path / "file" / "cache"
    (tmp_path / "file").write_text("")
    place = writable_folder(blocked)
    assert place == writable_folder(blocked)
    (place / "x").write_text("written")
    assert len(caplog.records) == 1
    assert str(blocked) in caplog.text


def test_a_user_without_a_home_has_a_cache_for_one_run() -> None:
    code = (
        "import os; from hardware.files import cache_folder\n"
        "folder = cache_folder(); (folder / 'x').write_text('x')\n"
        "assert cache_folder() == folder\n"
        "assert os.environ.get('SIMQNAS_CACHE', str(folder)) == str(folder)\n"
        "print(folder)\n"
    )
    hidden = {"SIMQNAS_CACHE", "XDG_CACHE_HOME", "HOME"}
    env = {name: value for name, value in os.environ.items() if name not in hidden}
    env["HOME"] = "/dev/null/none"
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env=env,
        cwd=Path(__file__).parents[1],
    )
    assert done.stderr.count("cannot be written") == 1
    assert not Path(done.stdout.strip()).exists()
