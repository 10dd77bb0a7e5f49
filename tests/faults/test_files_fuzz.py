"""Whatever files of data and checkpoints hold: a plan that accounts for all of it, or one line."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoModelForImageClassification, AutoModelForSequenceClassification
from transformers.image_utils import load_image

from nas.command_line.output import message as message_of
from nas.dry_run import check
from nas.experiment.schema import Experiment
from nas.run.listing import Listing
from supernets.data.data import TaskData
from supernets.data.images import ImageSplit
from supernets.load import load_data, load_supernet
from supernets.pretrained.checkpoint import open_checkpoint
from supernets.pretrained.weights import checkpoint_sizes
from tests.family_models import LABELS, config_of, inputs_for
from tests.faults import odd_checkpoints, odd_files
from tests.faults.odd_files import Sample
from tests.test_checkpoint_spellings import assert_equals_transformers

transformers.logging.set_verbosity_error()

SPLITS = ("train", "validation", "test")
FROM_SCRATCH = {"training": {"epochs": 1}}
SMALL = {"embed_dim": 8, "depth": 2, "num_heads": 2, "hidden_dim": 8}
BERT = {"bert": {**SMALL, "vocab_size": 300, "max_positions": 40}, **FROM_SCRATCH}
VIT = {"vit": {**SMALL, "image_size": 16, "patch_size": 8}, **FROM_SCRATCH}
SAID = re.compile(r"(data|model|space|target|polish|task)(\.[a-z_]+)?\b")
"""How a refusal begins: with the part of the experiment that has to change."""


class Tally:
    """How often a plan was made and refused: a test that sees one of them alone tests nothing."""

    def __init__(self) -> None:
        self.plans = 0
        self.refusals: Counter[str] = Counter()

    def assert_both(self) -> None:
        """At least a fifth of the examples are plans, and some are none."""
        assert self.plans > 0.2 * (self.plans + self.refusals.total()), self.refusals
        assert self.refusals


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))


class AskedAllError(Exception):
    """What comes before the export was asked."""


def until_table(finding: Listing | str) -> None:
    if isinstance(finding, Listing):
        raise AskedAllError


def plan(experiment: Experiment, tally: Tally) -> TaskData | None:
    """The data of a plan, after all that `check` asks before it exports; None if it is refused."""
    try:
        data = load_data(experiment.data, experiment.model)
        with suppress(AskedAllError):
            check(experiment, data, None, tell=until_table)
    except (ValueError, OSError) as error:
        message = message_of(error)
        assert len(message.splitlines()) == 1, message
        assert SAID.match(message), message
        tally.refusals[message[:60]] += 1
        return None
    tally.plans += 1
    for name in SPLITS:
        batch = next(getattr(data, name).batches(4))
        assert all(torch.isfinite(values.float()).all() for values in batch.inputs.values())
    return data


def budget(examples: int) -> settings:
    """So many examples, the same ones every time; more than usual are new ones every time."""
    return settings(
        max_examples=examples,
        derandomize=examples <= MOST,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def experiment(data: Any, model: Any) -> Experiment:
    return Experiment.model_validate({"name": "fuzz", "data": data, "model": model})


def assert_adds_up(data: TaskData, sample: Sample) -> None:
    """Every row that was written is found, and every row found is used or left out."""
    account = data.source.account
    found = {name: split.found for name, split in account.splits.items()}
    for name, split in account.splits.items():
        assert split.found == split.used + sum(split.left_out.values())
        assert split.used == len(getattr(data, name)) == len(getattr(data, name).labels)
    unused = sum(n for why, n in account.unused.items() if why.startswith(("rows ", "images ")))
    if not sample.damaged:
        assert sum(found.values()) + unused == sample.rows, (found, account.unused)


def fuzzed(strategy: st.SearchStrategy[Sample], model: Any, examples: int, each: Any) -> None:
    """Plan with many data sets; `each` looks at those that are accepted."""
    tally = Tally()

    @budget(examples)
    @given(sample=strategy)
    def try_one(sample: Sample) -> None:
        with tempfile.TemporaryDirectory() as folder:
            data = plan(experiment(sample.write(Path(folder)), model), tally)
            if data is not None:
                assert_adds_up(data, sample)
                each(data, sample)

    try_one()
    tally.assert_both()


def assert_complete_rows_are_used(data: TaskData, sample: Sample) -> None:
    """A row with a text and a label is used, whatever they look like."""
    splits = data.source.account.splits.values()
    if not sample.damaged and not data.source.account.unused:
        assert sum(split.used for split in splits) == sample.complete


def assert_pixels_are_those_of_transformers(data: TaskData, sample: Sample) -> None:
    """Every image used, against transformers' own loading and processing of the same file."""
    processor: Any = data.preprocessor
    for split in (data.train, data.validation, data.test):
        assert isinstance(split, ImageSplit)
        pictures: Any = split.pictures
        ours = split.preprocessor.normalise(split.pixels[torch.arange(len(split))])
        for values, entry in zip(ours, pictures.entries(np.arange(len(split))), strict=True):
            image = load_image(entry["path"])
            theirs = processor.processor(image, return_tensors="pt")["pixel_values"][0]
            assert (values - theirs).abs().max() <= 2 / 255, entry["path"]


def rows_for_checkpoints() -> Sample:
    """Images and texts of the classes that the checkpoints' classifiers know."""
    files = {f"images/{LABELS[i % 5]}/{i}.png": odd_files.plain(i, "png") for i in range(30)}
    texts = [f"a {'b ' * (i % 7)}c,{LABELS[i % 5]}" for i in range(30)]
    return Sample({**files, "texts.csv": "\n".join(["text,label", *texts]).encode()})


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint of every kind, and data for them."""
    base = tmp_path_factory.mktemp("models")
    for name in odd_checkpoints.NAMES:
        odd_checkpoints.save(name, base / name)
    rows_for_checkpoints().write(base)
    return base


def fuzzed_checkpoints(names: Sequence[str], changes: Any, examples: int, base: Path) -> None:
    """Plan with many checkpoints; those accepted are compared with transformers."""
    tally = Tally()

    @budget(examples)
    @given(
        data=st.data(),
        name=st.sampled_from(names),
        chosen=st.lists(st.sampled_from(changes), min_size=1, max_size=2, unique=True),
    )
    def try_one(data: Any, name: str, chosen: list[odd_checkpoints.Change]) -> None:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(shutil.copytree(base / name, Path(place) / "model"))
            for change in sorted(chosen, key=changes.index):  # bytes are damaged last
                change(data.draw, folder)
            rows = "images" if "pixel_values" in config_of(name).inputs else "texts.csv"
            made = experiment({"name": str(base / rows)}, {"checkpoint": str(folder)})
            opened = plan(made, tally)
            if opened is not None:
                assert_computes_what_transformers_does(made, opened, folder)

    try_one()
    tally.assert_both()


def assert_computes_what_transformers_does(made: Experiment, data: TaskData, folder: Path) -> None:
    """Weights and, where the classifier is the checkpoint's, outputs for the same inputs."""
    start = load_supernet(made.model, data, made.seed)
    network, images = start.network, isinstance(data.train, ImageSplit)
    kind: Any = AutoModelForImageClassification if images else AutoModelForSequenceClassification
    try:
        model, info = kind.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    except Exception:  # what transformers cannot load is no reference
        return
    if network.config != checkpoint_sizes(open_checkpoint(str(folder))):
        return  # positions were resized to the images
    if info["missing_keys"]:
        return  # drawn at random; ours knows more wrappers
    assert_equals_transformers(network, model.state_dict())
    names = [model.config.id2label[number] for number in sorted(model.config.id2label)]
    if any("classifier" in note for note in start.notes) or sorted(names) != sorted(LABELS):
        return
    inputs = inputs_for(network)
    with torch.no_grad():
        try:
            logits = model.eval()(**inputs).logits
        except Exception:  # nor what it loads and cannot run
            return
        theirs = logits[:, [names.index(label) for label in LABELS]]
        torch.testing.assert_close(network(**inputs), theirs, atol=1e-4, rtol=1e-4)


TEXTS, IMAGES, CHECKPOINTS, PREPROCESSORS = 60, 25, 45, 25
"""Examples that every run of the tests looks at; the slow run looks at 50 times as many."""

MOST = max(TEXTS, IMAGES, CHECKPOINTS, PREPROCESSORS)


@pytest.mark.parametrize("times", [1, pytest.param(50, marks=pytest.mark.slow)])
class TestFuzz:
    """One test for each kind of file."""

    def test_tables_of_texts(self, times: int) -> None:
        fuzzed(odd_files.texts(), BERT, TEXTS * times, assert_complete_rows_are_used)

    def test_folders_of_images(self, times: int) -> None:
        fuzzed(odd_files.images(), VIT, IMAGES * times, assert_pixels_are_those_of_transformers)

    def test_checkpoints(self, times: int, models: Path) -> None:
        fuzzed_checkpoints(
            odd_checkpoints.NAMES, odd_checkpoints.CHANGES, CHECKPOINTS * times, models
        )

    def test_preprocessors(self, times: int, models: Path) -> None:
        names = ["vit", "resnet-basic"]
        fuzzed_checkpoints(names, odd_checkpoints.IMAGE_CHANGES, PREPROCESSORS * times, models)
