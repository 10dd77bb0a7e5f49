"""The search problem of a super-network: exact sizes, structural features, cost baselines."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from hardware.formats.fp32 import FP32
from hardware.formats.registry import ordered
from hardware.writing.size import SizeModel
from nas.evaluation.candidate_builder import CandidateBuilder
from nas.experiment.metrics import METRICS
from nas.experiment.objectives import FloatArray
from nas.experiment.schema import Experiment
from nas.search.problem import PerGenome, SearchProblem
from predictors.features import cost_by_precision, precision_changes
from supernets.space.cost import Cost
from supernets.space.space import Genomes, SearchSpace


class StructureFeatures:
    """What the structure of a candidate says about its latency."""

    def __init__(self, space: SearchSpace, cost: Callable[[Genomes], Cost]):
        self._cost = cost
        largest = cost(space.largest()[None])
        self._macs_scale = float(largest.macs[0])
        self._weights_scale = float(largest.parameters[0])
        genes = [gene for gene in space.genes if gene.kind == "precision"]
        used = {FP32.name, *(choice for gene in genes for choice in gene.choices)}
        self._formats = [place for place, known in enumerate(ordered()) if known.name in used]

    def features(self, genomes: Genomes) -> FloatArray:
        """MACs and weights by precision, other MACs and precision changes, one row each.

        Of the space's precisions alone: what predictors learn depends on no format it has not.
        """
        cost, formats = self._cost(genomes), len(self._formats)
        levels = np.searchsorted(self._formats, cost.formats)
        macs = cost.macs_per_layer / self._macs_scale
        weights = cost.parameters_per_layer / self._weights_scale
        return np.hstack(
            [
                cost_by_precision(macs, levels, formats),
                cost_by_precision(weights, levels, formats),
                (cost.other_macs / self._macs_scale)[:, None],
                precision_changes(levels, cost.active, formats),
            ]
        )

    def cheap(self, genomes: Genomes) -> FloatArray:
        """MACs and stored weight bits, the baseline a predictor has to beat, `(n, 2)`."""
        cost = self._cost(genomes)
        stored = np.array([entry.bits for entry in ordered()])[cost.formats]
        bits = (cost.parameters_per_layer * stored).sum(axis=1)
        bits = bits + cost.other_parameters * FP32.bits
        scaled = [cost.macs / self._macs_scale, bits / (32 * self._weights_scale)]
        return np.stack(scaled, axis=1)


class ExactCosts:
    """Metrics that are computed from a genome, not predicted."""

    def __init__(self, builder: CandidateBuilder):
        self._cost = builder.cost
        self._sizes = SizeModel(builder.template, builder.scheme)

    @property
    def by_name(self) -> dict[str, PerGenome]:
        """Every metric of the table that is exact -> its values `(n_samples,)` of genomes."""
        return {
            metric.name: getattr(self, metric.name) for metric in METRICS.values() if metric.exact
        }

    def size_bytes(self, genomes: Genomes) -> FloatArray:
        """Bytes of the file a genome is written to, `(n_samples,)`."""
        cost = self._cost(genomes)
        names = [layer.name for layer in cost.layers]
        features = cost.out_features, cost.in_features, cost.formats, cost.choices
        saved = cost.narrowed_parameters * (FP32.bits // 8)
        return (self._sizes.file_bytes(names, *features) - saved).astype(np.float64)

    def bits_per_weight(self, genomes: Genomes) -> FloatArray:
        """Bits of that file per parameter, scales and all else included, `(n_samples,)`."""
        return 8 * self.size_bytes(genomes) / self.parameters(genomes)

    def parameters(self, genomes: Genomes) -> FloatArray:
        """Parameters of the sub-network, `(n_samples,)`."""
        return self._cost(genomes).parameters.astype(np.float64)

    def macs(self, genomes: Genomes) -> FloatArray:
        """Multiply-accumulates of one sample, `(n_samples,)`."""
        return self._cost(genomes).macs.astype(np.float64)


def supernet_problem(
    experiment: Experiment,
    builder: CandidateBuilder,
    references: Mapping[str, Mapping[str, float]],
) -> SearchProblem:
    """What the strategies are given: space, goals, exact costs and features.

    references: reference name -> metrics, to which relative constraints are resolved.
    """
    structure = StructureFeatures(builder.space, builder.cost)
    return SearchProblem(
        space=builder.space,
        objectives=experiment.parsed_objectives(),
        constraints=tuple(c.resolve(references) for c in experiment.parsed_constraints()),
        exact=ExactCosts(builder).by_name,
        features=structure.features,
        cheap=structure.cheap,
    )
