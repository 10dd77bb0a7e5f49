"""What an experiment would do, found out without training anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from hardware.files import cache_folder
from hardware.formats.format import Format
from hardware.formats.registry import FORMATS, ordered
from hardware.formats.scheme import QuantScheme
from hardware.formats.weight_memo import ShapeMemo
from hardware.portability.agreement import ready_runtimes
from hardware.portability.kernels import lacking_kernels
from hardware.portability.runtimes import Runtime
from hardware.target import Target
from nas.cost_models import ExactCosts
from nas.evaluation.candidate_builder import CandidateBuilder, template_of
from nas.experiment.metrics import find_metric
from nas.experiment.objectives import Constraint, check_consistent
from nas.experiment.schema import Experiment
from nas.ledger.storage import StorageError, open_storage
from nas.recipe.defaults import Recipe
from nas.recipe.facts import Facts
from nas.recipe.resolution import continued, planned, resolved
from nas.recipe.timing import Untuned
from nas.run.data_record import account_of, record_of
from nas.run.listing import Listing
from nas.run.pace import Pace
from nas.run.run_folder import RunFolder
from nas.run.saved_experiment import is_written, refuse_changes
from nas.run_session import candidate_builder
from nas.search.problem import refuse_single
from nas.training.train_supernet import ROOM, check_batches
from nas.workers.handover import open_artifacts
from supernets.data.data import TaskData
from supernets.data.vocabulary.written import told
from supernets.families.registry import family
from supernets.load import load_data, load_supernet, order_pieces
from supernets.open_data import noisy
from supernets.pretrained.weights import model_config
from supernets.space.space import Genomes, SearchSpace
from supernets.tasks.task import Task
from supernets.user_code import is_place, user_function

Tell = Callable[[Listing | str], object]
"""What is given each finding of a dry run."""


class Corner(NamedTuple):
    """The smallest or largest architecture of a space in one precision throughout."""

    architecture: str
    precision: Format
    metrics: Mapping[str, float]


def admit(
    experiment: Experiment,
    folder: RunFolder,
    tell: Tell | None = None,
    needs_database: bool = False,
    pace: Pace | None = None,
) -> tuple[TaskData, Recipe]:
    """Load the data and derive what is left open, fitted to the budget if there is one.

    tell: is given what a dry run finds. Without it a run that is tuned is not looked at again.
    pace: of the run, to which its stages are planned.
    Raises ValueError for all that can be found out before hours of training.
    """
    if needs_database and experiment.storage is None:
        raise StorageError(
            "--workers remote, --measure accuracy: workers elsewhere need a database to meet in; "
            "give --storage postgresql://user@host/name"
        )
    folder.refuse_unusable()
    cache_folder()  # says so where it cannot be written
    pace, experiment = pace or Pace(), continued(experiment, folder)
    refuse_changes(experiment, folder)
    _open_ledger(experiment, folder)
    refuse_old_opset(experiment)
    data = load_data(experiment.data, experiment.model, experiment.task)
    record_of(experiment, data).refuse_changes(folder)
    facts = Facts.of(experiment, data)
    recipe = resolved(experiment, folder, facts)
    tuned = is_written(recipe.experiment, folder) or folder.is_tuned
    if tell is None and tuned:
        ready_runtimes(recipe.experiment.export.verify)
        return data, recipe
    untuned = check(recipe.experiment, data, None if tuned else folder, tell or ignore)
    if not tuned and (tell is not None or experiment.budget is not None):
        data, recipe = planned(experiment, recipe, facts, data, untuned, pace)
    if tell is not None:
        for line in recipe.lines():
            tell(line)
    return data, recipe


def refuse_old_opset(experiment: Experiment) -> None:
    """Raise ValueError for an opset in which no network of the family can be written."""
    asked = experiment.export.opset
    if asked is None:
        return
    name = model_config(experiment.model).family
    if asked < (least := family(name).least_opset):
        raise ValueError(
            f"export.opset: {asked} is below what every {name} needs, which is {least}; leave it "
            "out for the oldest that a model needs"
        )


def ignore(finding: object) -> None:
    """A finding that nobody asked for."""


def _open_ledger(experiment: Experiment, folder: RunFolder) -> None:
    """Raise StorageError for a ledger, or a place for files, that a run could not use."""
    if experiment.storage is not None or folder.journal.exists():
        open_storage(experiment.storage, folder.journal)
    if experiment.storage is not None and experiment.artifacts is not None:
        open_artifacts(experiment, folder).probe()


def check(experiment: Experiment, data: TaskData, folder: RunFolder | None, tell: Tell) -> Untuned:
    """Validate checkpoint, space, export and constraints; gives what training starts from.

    folder: where there has to be room for training, if that is still to come. Raises ValueError
    for anything that would stop the run, unreachable constraints included.
    """
    target = experiment.target
    tell(f"target: {target.execution_provider}, {target.threads} thread(s)")
    for line in (*data.source.account.lines(), *data.notes):
        tell(line)
    refuse_metrics(experiment, data.task)
    if data.task.taught_alone and experiment.model.training is not None:
        raise ValueError(
            f"model.training: for task {data.task.name} there is nothing to train on but the "
            "checkpoint's own answers; leave it out, tuning does that"
        )
    if data.task.taught_alone and experiment.polish and experiment.polish.teacher:
        raise ValueError(
            f"polish.teacher: for task {data.task.name} the checkpoint itself teaches; leave it out"
        )
    runtimes = ready_runtimes(experiment.export.verify)
    if experiment.polish is not None:
        noisy(data, experiment.polish.token_noise)
    start = load_supernet(experiment.model, data, experiment.seed)
    for line in start.notes:
        tell(line)
    network, space = start.network, start.network.space(experiment.space)
    order_pieces(network, space, data)
    for line in told(account_of(experiment, data).vocabularies):
        tell(line)
    network.example_inputs(1, target.sequence_length)  # refuses more tokens than it has positions
    check_batches(network, len(data.train), experiment)
    if folder is not None:
        folder.require_room(ROOM * network.weight_bytes, "training")
    refuse_precisions(space, target)
    refuse_lacking_kernels(space, experiment.quantization, target, runtimes)
    if experiment.export.transformers_js and getattr(network.config, "channels", 3) != 3:
        raise ValueError(
            "export.transformers_js: the network reads grey images, transformers.js prepares "
            "colour ones only; leave it out"
        )
    refuse_single(space)
    tell(_genes(space))
    free = sum(len(gene.choices) > 1 for gene in space.genes)
    tell(f"space: {free} genes with a choice, {space.size:.4g} distinct candidates")
    untuned = Untuned(network, space, template_of(network, space))
    builder = candidate_builder(experiment, data, *untuned, calibration_samples=64)
    corners = measure_corners(builder, target.runs_on.formats)
    tell(_table(corners))
    bounds, constraints = exact_bounds(builder), experiment.parsed_constraints()
    for constraint in constraints:
        tell(check_reachable(constraint, bounds, corners))
    known = [c.resolve(_references(corners)) for c in constraints if c.metric in bounds]
    check_consistent(known)
    return untuned


def refuse_metrics(experiment: Experiment, task: Task) -> None:
    """Raise ValueError for a metric that does not fit the task, or cannot be imported."""
    for metric in experiment.qualities:
        if is_place(metric.name):
            user_function(metric.name, "metric")
        elif metric.name not in task.metrics:
            raise ValueError(
                f"metric: {metric.name} does not fit task {task.name} ({task.title}); allowed are "
                f"{', '.join(task.metrics)}, in metric, objectives and constraints"
            )


def refuse_precisions(space: SearchSpace, target: Target) -> None:
    """Raise ValueError if the space holds a precision that the target cannot run."""
    allowed = [entry.name for entry in target.runs_on.formats]
    asked = dict.fromkeys(c for g in space.genes if g.kind == "precision" for c in g.choices)
    refused = [str(choice) for choice in asked if choice not in allowed]
    if refused:
        raise ValueError(
            f"space.precision: {', '.join(refused)} cannot run on target {target.provider}; "
            f"allowed are {', '.join(allowed)}, for example {{'*': [{', '.join(allowed)}]}}"
        )


def refuse_lacking_kernels(
    space: SearchSpace, scheme: QuantScheme, target: Target, runtimes: Sequence[Runtime]
) -> None:
    """Raise ValueError if linears as the scheme writes them cannot run in every runtime named."""
    choices = {c for gene in space.genes if gene.kind == "precision" for c in gene.choices}
    written = {FORMATS[str(choice)] for choice in choices} | set(target.references)
    lines = lacking_kernels(scheme, ordered(written), runtimes)
    if lines:
        raise ValueError("\n".join(lines))


def _genes(space: SearchSpace) -> Listing:
    """One row per kind of gene: the same choices at the same place of every block."""
    groups: dict[tuple[str, tuple[object, ...]], list[str]] = {}
    for gene in space.genes:
        kind = ".".join("*" if part.isdigit() else part for part in gene.name.split("."))
        groups.setdefault((kind, gene.choices), []).append(gene.name)
    rows = [(_starred(n), len(n), list(choices)) for (_, choices), n in groups.items()]
    return Listing("Genes", ("gene", "count", "choices"), rows)


def _starred(names: Sequence[str]) -> str:
    """Paths that differ in their numbers as one, with a star for each number that differs."""
    parts = zip(*(name.split(".") for name in names), strict=True)
    return ".".join(found[0] if len(set(found)) == 1 else "*" for found in parts)


def measure_corners(builder: CandidateBuilder, precisions: Sequence[Format]) -> list[Corner]:
    """Build the smallest and the largest network in every precision and weigh the files.

    Their size does not depend on the values of weights, which are not rounded for it.
    """
    space, builder = builder.space, replace(builder, memo=ShapeMemo(), feedback=None)
    corners = []
    for name, genome in (("smallest", space.smallest()), ("largest", space.largest())):
        for precision in ordered(precisions):
            candidate = builder.uniform(genome, precision)
            size = float(builder.model(candidate).ByteSize())
            metrics = builder.costs(candidate, size)
            corners.append(Corner(name, precision, metrics))
    return corners


def _table(corners: Sequence[Corner]) -> Listing:
    computed = ("parameters", "macs", "size_bytes")
    rows = [
        (corner.architecture, corner.precision.name, *(corner.metrics[name] for name in computed))
        for corner in corners
    ]
    return Listing("Extremes", ("network", "precision", "parameters", "MACs", "file bytes"), rows)


def exact_bounds(builder: CandidateBuilder) -> dict[str, tuple[float, float]]:
    """Least and greatest value, over the whole space, of every metric that is computed exactly
    and sums over the layers: others need not have theirs at the smallest and largest network."""
    space, exact = builder.space, ExactCosts(builder)
    rows = np.concatenate([_uniform_choices(space, space.smallest()), space.largest()[None]])
    sums = {n: metric for n, metric in exact.by_name.items() if find_metric(n).adds_up}
    values = {name: metric(rows) for name, metric in sums.items()}
    return {name: (float(v.min()), float(v.max())) for name, v in values.items()}


def _uniform_choices(space: SearchSpace, sizes: Genomes) -> Genomes:
    """A genome's sizes under every rank of precision: int4 stores least but for tiny layers.

    And under every rank of what has no order.
    """
    rows = sizes[None]
    for kind in ("precision", "choice"):
        ranks = np.arange(space.n_choices[space.of_kind(kind)].max(initial=1))[:, None, None]
        rows = np.where(space.of_kind(kind), np.minimum(ranks, space.n_choices - 1), rows)
        rows = rows.reshape(-1, len(space.genes))
    return space.canonical(rows)


def check_reachable(
    constraint: Constraint, bounds: Mapping[str, tuple[float, float]], corners: Sequence[Corner]
) -> str:
    """Say whether a constraint can be kept, as far as that is known without measuring.

    Raises ValueError, with the best value that can be reached, when it cannot.
    """
    if constraint.metric not in bounds:
        return f"constraint {constraint}: not known beforehand; judged after the first round"
    limit = constraint.resolve(_references(corners))
    least, greatest = bounds[constraint.metric]
    best, missing = (least, "smaller") if limit.relation == "<=" else (greatest, "larger")
    if limit.violation(np.array(best)) > 0:
        raise ValueError(
            f"constraints: {constraint} cannot be kept; the best the space holds is {best:,.0f} "
            f"{limit.unit}; relax the constraint or add {missing} choices to space"
        )
    return f"constraint {constraint}: reachable (the space holds {least:,.0f} to {greatest:,.0f})"


def _references(corners: Sequence[Corner]) -> dict[str, Mapping[str, float]]:
    """Reference name -> what is known of it without measuring."""
    return {c.precision.name: c.metrics for c in corners if c.architecture == "largest"}
