"""What a run knows at this moment, finished or not."""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any

from nas.delivery.selection import best_so_far
from nas.evaluation.record import Evaluation
from nas.experiment.schema import Experiment
from nas.ledger.study import read_evaluations
from nas.run.run_folder import RunFolder, RunFolderError, read_json
from nas.run.saved_experiment import read_experiment


@dataclass(frozen=True)
class Overview:
    """One look at a run.

    step, total: progress of the stage; total is None where it is not written down.
    best: see `best_so_far`.
    """

    folder: RunFolder
    stage: str
    step: int
    total: int | None
    evaluations: Sequence[Evaluation]
    best: str = ""

    @classmethod
    def of(cls, folder: RunFolder) -> Overview:
        """Look at a run folder. Raises RunFolderError where there is none."""
        experiment = read_experiment(folder)
        name, step = _preparation(folder, experiment)
        if name is not None:
            return cls(folder, name, step, None, ())
        try:
            known = read_evaluations(experiment, folder)
        except RunFolderError:  # the first line of the ledger is not written yet
            known = []
        searched = sum(e.role == "search" for e in known)
        total, best = experiment.search.evaluations, best_so_far(known, experiment)
        if folder.front.exists() and read_json(folder.front)["evaluations"] == len(known):
            return cls(folder, "finished", searched, searched, known, best)
        if not searched:
            return cls(folder, "references", len(known), None, known, best)
        stage = "search" if searched < total else "validation"
        return cls(folder, stage, searched, total, known, best)

    @property
    def process(self) -> str | None:
        """The process that works on the run, None while nobody does."""
        owner = self.folder.path / "run.lock.owner"
        text = owner.read_text(encoding="utf-8") if owner.exists() else ""
        match = re.fullmatch(r"process (\d+) on (.+)", text)
        if match is None:
            return None
        here = match[2] == os.uname().nodename
        return None if here and not os.path.exists(f"/proc/{match[1]}") else text

    def lines(self) -> Iterator[str]:
        """What to print."""
        progress = f" {self.step}" + (f" of {self.total}" if self.total else "")
        yield f"stage: {self.stage}{progress if self.step else ''}"
        yield f"process: {self.process or 'none; `simqnas run` continues'}"
        failures = Counter(
            str(e.failure).splitlines()[0] for e in self.evaluations if e.failure is not None
        )
        yield f"evaluations: {len(self.evaluations)}, {failures.total()} of them failed"
        for reason, count in failures.most_common():
            yield f"  {count}x {reason}"
        yield self.best or "best: nothing measured yet"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "stage": self.stage,
            "step": self.step,
            "total": self.total,
            "process": self.process,
            "evaluations": [_plain(evaluation) for evaluation in self.evaluations],
        }

    def to_csv(self) -> str:
        """One line per evaluation: what it is, its metrics, its genes."""
        rows = [
            {
                "key": e.candidate.key,
                "status": _status(e),
                "role": e.role,
                "round": e.round,
                **e.metrics,
                "failure": e.failure or "",
                **e.candidate.values,
            }
            for e in self.evaluations
        ]
        columns = list(dict.fromkeys(name for row in rows for name in row))
        text = StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()


def _preparation(folder: RunFolder, experiment: Experiment) -> tuple[str | None, int]:
    """The stage before measuring and its last checkpoint's step; None when that is over."""
    if (folder.supernet / "template.onnx").exists():
        return None, 0
    if (folder.supernet / "model.safetensors").exists():
        return "template", 0
    scratch = experiment.model.training is not None or experiment.model.checkpoint is None
    trained = (folder.trained / "model.safetensors").exists()
    stage = "training" if scratch and not trained else "tuning"
    files = (folder.supernet / f"{stage}-checkpoints").glob("step-*.safetensors")
    return stage, max((int(path.stem.removeprefix("step-")) for path in files), default=0)


def _status(evaluation: Evaluation) -> str:
    return "complete" if evaluation.failure is None else "failed"


def _plain(evaluation: Evaluation) -> dict[str, Any]:
    return {
        "key": evaluation.candidate.key,
        "status": _status(evaluation),
        "role": evaluation.role,
        "round": evaluation.round,
        "metrics": dict(evaluation.metrics),
        "failure": evaluation.failure,
        "details": evaluation.details.to_json(),
        **evaluation.candidate.to_json(),
    }
