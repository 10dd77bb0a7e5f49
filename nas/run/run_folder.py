"""The folder of one run: where each stage writes its one thing."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from hardware.files import write_atomically


class RunFolderError(ValueError):
    """The run folder is in use, belongs to another experiment, or is incomplete."""


@dataclass(frozen=True)
class RunFolder:
    """Paths inside `runs/<name>/`; see the README for what each holds."""

    path: Path

    @property
    def experiment(self) -> Path:
        """The resolved configuration, defaults included."""
        return self.path / "experiment.yaml"

    @property
    def supernet(self) -> Path:
        """Super-network weights, space.json and the exported template."""
        return self.path / "supernet"

    @property
    def space(self) -> Path:
        """What the search may choose from."""
        return self.supernet / "space.json"

    @property
    def journal(self) -> Path:
        """The ledger's journal file."""
        return self.path / "evaluations.journal"

    @property
    def artifacts(self) -> Path:
        """Model files on their way to other machines."""
        return self.path / "artifacts"

    @property
    def trained(self) -> Path:
        """The network that was trained plainly before it was tuned."""
        return self.supernet / "trained"

    @property
    def predictors(self) -> Path:
        """The chosen predictors and their errors."""
        return self.path / "predictors.json"

    @property
    def front(self) -> Path:
        """Validated candidates."""
        return self.path / "front.json"

    @property
    def models(self) -> Path:
        """One folder per exported model."""
        return self.path / "models"

    @property
    def polished(self) -> Path:
        """Chosen sub-networks fine-tuned on their own."""
        return self.path / "polished"

    @property
    def report_html(self) -> Path:
        """The report for a browser."""
        return self.path / "report.html"

    @property
    def report_markdown(self) -> Path:
        """The report as text."""
        return self.path / "report.md"

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

    def require_room(self, needed: int, stage: str) -> None:
        """Raise RunFolderError if the disk has not `needed` bytes left for a stage."""
        free = shutil.disk_usage(self.path).free
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


def cache_folder() -> Path:
    """`$SIMQNAS_CACHE`, or `simqnas` in the user's cache folder."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("SIMQNAS_CACHE") or base / "simqnas")


def sha256(content: bytes) -> str:
    """Hexadecimal digest of a file."""
    return hashlib.sha256(content).hexdigest()
