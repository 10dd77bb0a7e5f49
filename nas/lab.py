"""Everything one run needs to measure and ship candidates."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property

from hardware.session import open_session
from hardware.target import Target
from hardware.template import Template
from nas.candidate import Candidate
from nas.config import Experiment
from nas.crew import Alone, Crew, Team
from nas.evaluate import LATENCY_REPEATS, Evaluator, split_accuracy
from nas.export import Exporter
from nas.front_file import Front
from nas.latency_book import LatencyBook, cache_folder
from nas.latency_queue import LatencyQueue
from nas.ledger import Evaluation, Ledger
from nas.polish import Polish
from nas.prepare import Preparation
from nas.problem import SearchProblem
from nas.progress import Reporter
from nas.records import open_latency_queue, open_ledger
from nas.references import PLAIN, low_reference, measured_references, reference_candidates
from nas.run_folder import RunFolder
from nas.supernet_problem import supernet_problem
from nas.validate import VALIDATION_REPEATS, Validator, pick_models, recommend
from nas.workbench import Workbench, template_of
from supernets.base import SuperNetwork
from supernets.data import TaskData, calibration_batches
from supernets.space import SearchSpace
from supernets.tasks import noisy


@dataclass(frozen=True)
class Lab:
    """A tuned super-network with everything that is needed to measure and ship its candidates."""

    experiment: Experiment
    folder: RunFolder
    data: TaskData
    workbench: Workbench
    ledger: Ledger

    @classmethod
    def prepare(
        cls, experiment: Experiment, folder: RunFolder, data: TaskData, reporter: Reporter
    ) -> Lab:
        """Load or make the super-network, export its template and open the ledger."""
        supernet, space = Preparation(experiment, data, folder, reporter).supernet()
        template = cls._template(supernet, space, folder, reporter)
        workbench = Workbench(
            supernet,
            space,
            template,
            experiment.quantization.scheme(),
            calibration_batches(data.train),
            experiment.target.sequence_length,
        )
        ledger = open_ledger(experiment, folder, space)
        if experiment.quantization.int4_kernel == "auto":
            workbench = cls._with_int4_kernel(workbench, experiment, ledger)
        return cls(experiment, folder, data, workbench, ledger)

    @staticmethod
    def _with_int4_kernel(
        workbench: Workbench, experiment: Experiment, ledger: Ledger
    ) -> Workbench:
        """The workbench with the run's INT4 kernel: one for all its machines and resumptions."""
        if (noted := ledger.notes.get("int4_kernel")) is not None:
            return workbench.with_int4_kernel(noted)
        workbench = workbench.with_fastest_int4(experiment.target.target(), cache_folder())
        ledger.note(int4_kernel=workbench.scheme.int4_kernel)
        return workbench

    @staticmethod
    def _template(
        supernet: SuperNetwork, space: SearchSpace, folder: RunFolder, reporter: Reporter
    ) -> Template:
        path = folder.supernet / "template.onnx"
        if not path.exists():
            reporter.stage("exporting the template").update(0, 1)
            template = template_of(supernet, space)
            part = path.with_suffix(".part")
            template.save(part)
            part.replace(path)
        return Template.load(path)

    @property
    def target(self) -> Target:
        """Where the models will run."""
        return self.experiment.target.target()

    @cached_property
    def references(self) -> dict[str, Candidate]:
        """Reference name -> candidate."""
        return reference_candidates(self.workbench, self.target)

    @cached_property
    def evaluator(self) -> Evaluator:
        """Measures candidates on the validation split."""
        book = LatencyBook(cache_folder() / "latency")
        # Not the one in FP32: beside other work its many more bytes slow it more than candidates.
        baseline = self.references[low_reference(self.references)]
        fast = self.experiment.evaluate == "torch"
        split, target, elsewhere = self.data.validation, self.target, self.elsewhere
        return Evaluator(self.workbench, split, target, book, baseline, fast, elsewhere)

    @cached_property
    def elsewhere(self) -> LatencyQueue | None:
        """Where latency is measured, None for here; the driver has noted it in the ledger."""
        if self.ledger.notes.get("latency") != "elsewhere":
            return None
        return open_latency_queue(self.experiment, self.folder)

    def crew(self, workers: int | None) -> AbstractContextManager[Crew]:
        """Who evaluates candidates; see `run` in the pipeline for `workers`."""
        if workers is None and not self.experiment.isolate:
            return nullcontext(Alone(self.evaluator))
        number = 1 if workers is None else workers
        return Team(self.folder.path, number, self.experiment.storage)

    def problem(self, references: Mapping[str, Mapping[str, float]]) -> SearchProblem:
        """The search problem, relative constraints resolved."""
        return supernet_problem(self.experiment, self.workbench, references)

    @property
    def exporter(self) -> Exporter:
        """Writes candidates as model folders."""
        allow_fallback = self.experiment.target.allow_fallback
        return Exporter(self.workbench, self.data, self.target, allow_fallback)

    @property
    def front_settings(self) -> dict[str, object]:
        """What the experiment says about the front; it may change after the search."""
        return self.experiment.model_dump(mode="json", include={"export", "polish", "constraints"})

    def _polish(self, full: Evaluation, reporter: Reporter) -> Polish | None:
        settings = self.experiment.polish
        if settings is None:
            return None
        validation = self.data.validation

        def score(workbench: Workbench, candidate: Candidate) -> float:
            session = open_session(workbench.model(candidate).SerializeToString(), self.target)
            return split_accuracy(session, workbench, candidate, validation, self.target)

        train, seed = noisy(self.data, settings.token_noise), self.experiment.seed
        bench, samples, folder = self.workbench, len(validation), self.folder
        return Polish(settings, bench, full, train, score, samples, folder, seed, reporter)

    def validate(self, evaluations: list[Evaluation], reporter: Reporter) -> Front:
        """Choose, export and measure the front of what has been evaluated."""
        picks = pick_models(evaluations, self.experiment)
        if all(pick.evaluation.role == "reference" for pick in picks):
            reporter.say(
                "no candidate that was measured keeps the constraints "
                f"({', '.join(self.experiment.constraints)}): only the references are exported; "
                "loosen one in constraints, or raise search.evaluations, and run again"
            )
        sizes = [int(pick.evaluation.metrics["size_bytes"]) for pick in picks]
        self.folder.require_room(sum(sizes) + max(sizes), "validation")
        full = measured_references(evaluations)[PLAIN]
        seed, polish = self.experiment.seed, self._polish(full, reporter)
        validator = Validator(self.exporter, self.target, seed, self.elsewhere, polish)
        models = tuple(validator.validate(picks, self.folder.models, reporter))
        return Front(
            models=models,
            recommended=recommend(models, self.experiment.export.accuracy_drop),
            evaluations=len(evaluations),
            conditions={
                **self.front_settings,
                "target": self.target.describe(),
                "latency repeats in the search": LATENCY_REPEATS,
                "latency repeats of the front": VALIDATION_REPEATS,
                "validation samples": len(self.data.validation),
                "test samples": len(self.data.test),
            },
        )
