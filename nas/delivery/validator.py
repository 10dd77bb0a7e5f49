"""The final front: exported, measured on the test split, and timed together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hardware.files import write_atomically
from hardware.kernel_profile import FallbackError
from hardware.latency import Rounds
from hardware.portability.agreement import verify_folder
from hardware.portability.runtimes import Runtime
from hardware.session import open_session
from hardware.writing.verify import PolicyError
from nas.delivery.exporter import Exporter, ExportError
from nas.delivery.model_card import model_card
from nas.delivery.results import ValidatedModel, Versus
from nas.delivery.selection import Pick, unscored
from nas.evaluation.latency_meter import LatencyMeter
from nas.evaluation.score_meter import RuntimeScore
from nas.run.progress import Reporter
from nas.run.run_folder import read_json, remove_others
from nas.training.finetune import FineTuner
from supernets.metrics.classes import ACCURACY
from supernets.metrics.metric import Quality

VALIDATION_REPEATS = 90
REFUSED = (ExportError, FallbackError, PolicyError)
"""What keeps one model from being exported, and the others not."""


@dataclass(frozen=True)
class Validator:
    """Exports chosen candidates and measures the files that were written.

    runtimes: where every model is run once more, and its answers compared. metric: by which models
    are scored.
    """

    exporter: Exporter
    latency: LatencyMeter
    seed: int
    fine_tuner: FineTuner | None = None
    runtimes: Sequence[Runtime] = ()
    metric: Quality = ACCURACY

    def validate(
        self, picks: Sequence[Pick], models: Path, reporter: Reporter
    ) -> list[ValidatedModel]:
        """Write `models/<name>/` for every pick and measure all of them together."""
        if self.fine_tuner is not None:
            found = [pick.evaluation for pick in picks if pick.evaluation.role == "search"]
            self.fine_tuner.train(found)
        stage = reporter.stage("validation")
        validated = []
        for number, pick in enumerate(picks):
            stage.update(number, len(picks) + 1, pick.name)
            try:
                validated.append(self._export(pick, models / pick.name))
            except REFUSED as error:
                if pick.evaluation.role == "reference":
                    raise
                reporter.say(f"{pick.name} is not exported: {error}")
        stage.update(len(picks), len(picks) + 1, "latency")
        validated = self._time(validated, models)
        for model in validated:
            folder = models / model.name
            file = folder / "preprocessor_config.json"
            preprocessing = read_json(file) if file.exists() else None
            config = read_json(folder / "config.json")
            card = model_card(
                model.name, model.candidate, config, preprocessing, model, folder, self.metric.title
            )
            write_atomically(folder / "README.md", card)
        remove_others(models, {model.name for model in validated})
        if self.fine_tuner is not None:
            self.fine_tuner.forget_others()
        stage.update(len(picks) + 1, len(picks) + 1, "")
        return validated

    def _export(self, pick: Pick, folder: Path) -> ValidatedModel:
        exporter, model = self.exporter, unscored(pick, self.metric)
        if self.fine_tuner is not None and pick.evaluation.role == "search":
            builder, accuracy = self.fine_tuner.shipped(pick.evaluation)
            exporter = replace(exporter, builder=builder)
            before = model.validation_accuracy
            model = replace(model, validation_accuracy=accuracy, unpolished_accuracy=before)
        coverage = exporter.write(pick.evaluation.candidate, folder)
        path = folder / "model.onnx"
        session = open_session(path, exporter.builder.target)
        meter = RuntimeScore(exporter.builder, exporter.data.test)
        found = meter.of_session(session, pick.evaluation.candidate)
        return replace(
            model,
            test_accuracy=found.score(self.metric),
            size_bytes=path.stat().st_size,
            coverage=coverage,
            agreements=tuple(verify_folder(folder, self.runtimes)),
        )

    def _time(self, models: Sequence[ValidatedModel], folder: Path) -> list[ValidatedModel]:
        """Fill in latencies and the comparison with each reference."""
        files = {m.name: folder / m.name / "model.onnx" for m in models}
        inputs = {m.name: self.exporter.builder.example(m.candidate) for m in models}
        rounds = self.latency.alternate(files, inputs, VALIDATION_REPEATS)
        references = [model for model in models if model.role == "reference"]
        timed = []
        for model in models:
            latency = rounds.latency(model.name)
            versus = {
                reference.name: self._versus(model, reference, rounds) for reference in references
            }
            quartiles = (latency.median_ms, latency.q1_ms, latency.q3_ms)
            timed.append(
                replace(
                    model,
                    latency_ms=quartiles,
                    latency_disturbed=latency.disturbed,
                    versus=versus,
                )
            )
        return timed

    def _versus(self, model: ValidatedModel, reference: ValidatedModel, rounds: Rounds) -> Versus:
        rng = np.random.default_rng(self.seed)
        faster = rounds.ratio(reference.name, model.name, rng)
        assert model.test_accuracy is not None
        assert reference.test_accuracy is not None
        return Versus(
            accuracy_difference=model.test_accuracy - reference.test_accuracy,
            latency_ratio=faster.value,
            latency_ratio_low=faster.low,
            latency_ratio_high=faster.high,
            latency_disturbed=faster.disturbed,
            size_ratio=reference.size_bytes / model.size_bytes,
        )
