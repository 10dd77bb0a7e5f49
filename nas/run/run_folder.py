"""The folder of one run: where each stage writes its one thing."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from hardware.files import write_atomically

SUPERNET_FILES = ("config.json", "space.json", "template.onnx", "model.safetensors")
"""Of a tuned super-network; the weights come last, whose presence says that all is there."""


class RunFolderError(ValueError):
    """The run folder is in use, belongs to another experiment, or is incomplete."""


@dataclass(frozen=True)
class Inside:
    """A path inside a run folder."""

    name: str

    def __get__(self, folder: RunFolder, _: type[RunFolder]) -> Path:
        return folder.path / self.name


@dataclass(frozen=True)
class RunFolder:
    """Paths inside `runs/<name>/`; see the README for what each holds."""

    path: Path

    experiment = Inside("experiment.yaml")
    """The resolved configuration, defaults included."""
    recipe = Inside("recipe.json")
    """Why every value that the experiment file left open is what it is."""
    pace = Inside("pace.json")
    """Predicted and real seconds of every stage."""
    trials = Inside("trials.json")
    """Short trainings by which settings were found."""
    trial_journal = Inside("trials.journal")
    """The same as Optuna studies, while they are under way."""
    supernet = Inside("supernet")
    """Super-network weights, space.json and the exported template."""
    space = Inside("supernet/space.json")
    """What the search may choose from."""
    trained = Inside("supernet/trained")
    """The network that was trained plainly before it was tuned."""
    journal = Inside("evaluations.journal")
    """The ledger's journal file."""
    artifacts = Inside("artifacts")
    """Model files on their way to other machines."""
    data = Inside("data.json")
    """The account of the data, and digests of data and checkpoint."""
    rows = Inside("data.npz")
    """Hashes of the rows of every split, to tell how other data differ."""
    known = Inside("known.json")
    """Scores of candidates that another run of the same super-network measured."""
    predictors = Inside("predictors.json")
    """The chosen predictors and their errors."""
    effects = Inside("effects.json")
    """What each gene does to each metric, as predicted."""
    profile = Inside("profile.json")
    """Bytes and time of every layer of the exported models."""
    front = Inside("front.json")
    """Validated candidates."""
    models = Inside("models")
    """One folder per exported model."""
    polished = Inside("polished")
    """Chosen sub-networks fine-tuned on their own."""
    outcomes = Inside("outcomes")
    """What delivered models answered about every sample."""
    report_html = Inside("report.html")
    """The report for a browser."""
    report_markdown = Inside("report.md")
    """The report as text."""

    @property
    def is_tuned(self) -> bool:
        """Whether the tuned super-network is there."""
        return (self.supernet / SUPERNET_FILES[-1]).exists()

    def model(self, key: str) -> Path:
        """The folder of one exported model. `key` is a candidate key or a reference's name."""
        if not re.fullmatch(r"[a-z0-9-]+", key):
            raise RunFolderError(f"model key {key!r}: only lower-case letters, digits and '-'")
        return self.models / key

    def refuse_links(self) -> None:
        """Raise RunFolderError for a link in the folder: writing through it would leave it."""
        lock = self.journal.with_name(self.journal.name + ".lock")  # optuna-dashboard's
        links = [path for path in self.path.rglob("*") if path.is_symlink() and path != lock]
        if links:
            raise RunFolderError(
                f"{links[0]}: is a link; a run writes inside its own folder only, so remove it "
                "(the run folder itself may be one)"
            )

    @property
    def _existing(self) -> Path:
        """The folder, or the nearest one above it that is there."""
        return next(p for p in (self.path, *self.path.absolute().parents) if os.path.lexists(p))

    def refuse_unusable(self) -> None:
        """Raise RunFolderError where a run could not write; nothing is left behind."""
        kept = (self.supernet, self.models, self.polished, self.artifacts)
        for place in (self._existing, *filter(Path.exists, kept)):
            try:
                tempfile.TemporaryFile(dir=place).close()
            except OSError as error:
                raise RunFolderError(
                    f"{self.path}: cannot be written ({error.strerror}: {place}); choose another "
                    "folder with --out"
                ) from None
        if self.path.exists():
            self.refuse_links()

    def require_room(self, needed: int, stage: str) -> None:
        """Raise RunFolderError if the disk has not `needed` bytes left for a stage."""
        free = shutil.disk_usage(self._existing).free
        if free < needed:
            raise RunFolderError(
                f"{self.path}: {stage} needs {needed:,} bytes on this disk, {free:,} are free; "
                "make room or choose another folder with --out"
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for this process. Raises RunFolderError naming the holder otherwise."""
        self.path.mkdir(parents=True, exist_ok=True)
        self.refuse_links()
        owner = self.path / "run.lock.owner"
        lock = FileLock(self.path / "run.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            holder = owner.read_text().strip() if owner.exists() else "another process"
            raise RunFolderError(
                f"{self.path}: {holder} works on this run; wait for it or stop it, "
                "or choose another folder with --out"
            ) from None
        try:
            owner.write_text(f"process {os.getpid()} on {os.uname().nodename}")
            yield
        finally:
            owner.unlink(missing_ok=True)
            lock.release()


def remove_others(parent: Path, kept: set[str]) -> None:
    """Remove the folders in `parent` that have none of these names."""
    for folder in parent.glob("*"):
        if folder.name not in kept:
            shutil.rmtree(folder)


def write_json(path: Path, data: Any) -> None:
    """Write indented JSON atomically."""
    write_atomically(path, json.dumps(data, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON. Raises RunFolderError naming the file when it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunFolderError(f"{path}: missing; `simqnas run` writes it") from None
    except json.JSONDecodeError as error:
        raise RunFolderError(f"{path}: damaged ({error}); delete it and run again") from None


def sha256(content: bytes) -> str:
    """Hexadecimal digest of a file."""
    return hashlib.sha256(content).hexdigest()
