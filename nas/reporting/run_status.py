"""What a run knows at this moment, finished or not."""

from __future__ import annotations

import csv
import os
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from nas.delivery.selection import best_so_far
from nas.evaluation.record import Evaluation
from nas.experiment.schema import Experiment
from nas.ledger.study import read_evaluations
from nas.run.pace import STAGES, Pace
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
        yield from self.stages()
        yield f"process: {self.process or 'none; `simqnas run` continues'}"
        failures = Counter(
            str(e.failure).splitlines()[0] for e in self.evaluations if e.failure is not None
        )
        yield f"evaluations: {len(self.evaluations)}, {failures.total()} of them failed"
        for reason, count in failures.most_common():
            yield f"  {count}x {reason}"
        yield self.best or "best: nothing measured yet"

    def stages(self) -> Iterator[str]:
        """A line for every stage that the run has or plans: what is done, and minutes."""
        pace = Pace.read(self.folder.pace)
        finished, now = self.stage == "finished", _place(self.stage)
        for place, stage in enumerate(STAGES):
            if stage not in pace.real_s and stage not in pace.predicted_s and stage != self.stage:
                continue
            state = "done" if finished or place < now else "now" if place == now else "to come"
            spent = f", {pace.real_s[stage] / 60:.1f} min" if stage in pace.real_s else ""
            planned = pace.predicted_s.get(stage)
            plan = "" if planned is None else f", planned {planned / 60:.1f} min"
            yield f"  {stage}: {state}{spent}{plan}"
        if not finished and (left := self.minutes_left(pace)) is not None:
            yield f"left: about {left:.1f} min"

    def minutes_left(self, pace: Pace) -> float | None:
        """By the plan; of a search without one, by what a candidate took so far; else None."""
        now = _place(self.stage)
        to_come = 1 - self.step / self.total if self.total else 1.0
        if pace.predicted_s:
            rest = sum(pace.predicted_s.get(stage, 0.0) for stage in STAGES[now + 1 :])
            return (to_come * pace.predicted_s.get(self.stage, 0.0) + rest) / 60
        took = [e.details.duration_s for e in self.evaluations if e.role == "search"]
        if self.stage != "search" or self.total is None or not took:
            return None
        return (self.total - self.step) * sum(took) / len(took) / 60

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


def watch(folder: RunFolder, console: Console, every_s: float) -> None:
    """Show a run until it is finished: in place on a terminal, elsewhere when something changed.

    Raises RunFolderError where there is none.
    """
    shown = ""
    with Live(console=console, auto_refresh=False, transient=False) as live:
        while True:
            overview = Overview.of(folder)
            text = "\n".join(overview.lines())
            if console.is_terminal:
                live.update(Text(text), refresh=True)
            elif text != shown:
                console.print(text, highlight=False, markup=False, soft_wrap=True)
            shown = text
            if overview.stage == "finished":
                return
            time.sleep(every_s)


def _place(stage: str) -> int:
    """Of a stage in the order of a run; of none that has one, after all."""
    return STAGES.index(stage) if stage in STAGES else len(STAGES)


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
