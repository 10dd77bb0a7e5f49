"""What data and which checkpoint a run was made with: kept, and compared by every later run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from hardware.files import write_atomically
from nas.experiment.schema import Experiment
from nas.run.run_folder import RunFolder, RunFolderError, read_json, write_json
from supernets.data.account import DataAccount
from supernets.data.data import TaskData
from supernets.data.fingerprint import Contents
from supernets.data.vocabulary.cost import vocabularies
from supernets.pretrained.checkpoint import open_checkpoint
from supernets.space.space import VOCABULARY

KEYS = {"account", "label_names", "digests", "checkpoint"}


@dataclass(frozen=True)
class DataRecord:
    """The account of the data, hashes of its rows, digests of the checkpoint's files."""

    account: DataAccount
    contents: Contents
    checkpoint: Mapping[str, str]

    def summary(self) -> dict[str, Any]:
        """What must be the same in a later run or on another machine, as plain values."""
        return {
            "label_names": list(self.account.label_names),
            "digests": {split: self.contents.digest(split) for split in self.contents.inputs},
            "checkpoint": dict(self.checkpoint),
        }

    def keep(self, folder: RunFolder) -> None:
        """Write the record down."""
        write_atomically(folder.rows, self.contents.to_bytes())
        write_json(folder.data, {"account": self.account.to_json(), **self.summary()})

    def refuse_changes(self, folder: RunFolder) -> None:
        """Raise RunFolderError with what differs if the folder's run was made with other data.

        A folder without a record, as version 0.1.0 made them, is taken as it is.
        """
        if folder.data.exists():
            self.refuse_other(_kept(folder), str(folder.path), self._rows(folder))

    def refuse_other(
        self, kept: Mapping[str, Any] | None, where: str, rows: Sequence[str] = ()
    ) -> None:
        """Raise RunFolderError with what differs from a kept summary, if there is one.

        rows: how the rows differ, as far as that is known.
        """
        changes = [] if kept is None else changes_of_summary(kept, self.summary(), rows)
        if changes:
            raise RunFolderError(
                f"{where}: holds a run on other data ({'; '.join(changes)}); what was trained and "
                "measured there does not belong to these: put the old ones back, or give this run "
                "another folder with --out"
            )

    def _rows(self, folder: RunFolder) -> list[str]:
        if not folder.rows.exists():
            return []
        try:
            return Contents.from_bytes(folder.rows.read_bytes()).changes(self.contents)
        except ValueError:  # damaged: the digests still tell that rows differ, though not how
            return []


def changes_of_summary(
    then: Mapping[str, Any], now: Mapping[str, Any], rows: Sequence[str]
) -> list[str]:
    """How two summaries differ. rows: what is known of the splits whose digests differ."""
    changes = _changes_of_names(then["label_names"], now["label_names"])
    differing = [s for s, digest in now["digests"].items() if then["digests"].get(s) != digest]
    if differing:
        changes += rows or [f"rows of {', '.join(differing)}"]
    before, after = then["checkpoint"], now["checkpoint"]
    for name in sorted({*before, *after}):
        if name not in after or name not in before:
            changes.append(f"the checkpoint's {name} is {'new' if name in after else 'gone'}")
        elif before[name] != after[name]:
            changes.append(f"the checkpoint's {name} differs")
    return changes


def _changes_of_names(then: Sequence[str], now: Sequence[str]) -> list[str]:
    if then == now:
        return []
    new, gone = [n for n in now if n not in then], [n for n in then if n not in now]
    parts = [f"new {', '.join(new)}"] * bool(new) + [f"gone {', '.join(gone)}"] * bool(gone)
    return [f"label names: {'; '.join(parts) or 'in another order'}"]


def read_account(folder: RunFolder) -> DataAccount | None:
    """The account of a run's data, None where version 0.1.0 kept none."""
    return DataAccount.from_json(_kept(folder)["account"]) if folder.data.exists() else None


def _kept(folder: RunFolder) -> dict[str, Any]:
    kept = read_json(folder.data)
    if not isinstance(kept, dict) or not set(kept) >= KEYS:
        raise RunFolderError(f"{folder.data}: damaged; delete it and run again")
    return kept


def record_of(experiment: Experiment, data: TaskData) -> DataRecord:
    """The record of an experiment's data and checkpoint; reads all of both."""
    name = experiment.model.checkpoint
    files = [] if name is None else open_checkpoint(name).files()
    stats = {path: path.stat() for path in files}
    digests = {p.name: _digest(p, stat.st_size, stat.st_mtime_ns) for p, stat in stats.items()}
    return DataRecord(data.source.account, data.source.contents, digests)


def account_of(experiment: Experiment, data: TaskData) -> DataAccount:
    """The account of the data, what smaller vocabularies cost included; the space is a good one."""
    wanted = experiment.space.resolved().dimensions.get(VOCABULARY, ())
    found = vocabularies(data, wanted, experiment.data.name) if wanted else {}
    return replace(data.source.account, vocabularies=found)


@cache
def _digest(path: Path, size: int, mtime_ns: int) -> str:
    """Hash a file once in a process, unless it changes meanwhile: it is asked for several times."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
