"""Candidates: one network, one genome, one key."""

from __future__ import annotations

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hardware.formats.int4 import INT4
from hardware.formats.int8 import INT8
from hardware.formats.policy import QuantPolicy
from nas.evaluation.candidate import Candidate
from supernets.space.space import Gene, Requires, SearchSpace

SPACE = SearchSpace(
    (
        Gene("depth", (1, 2)),
        Gene("blocks.0.mlp.hidden_dim", (8, 16)),
        Gene("blocks.1.mlp.hidden_dim", (8, 16), Requires("depth", 2)),
        Gene.precision("blocks.0.mlp.fc1", ("int4", "int8", "fp32")),
        Gene.precision("blocks.1.mlp.fc1", ("int4", "int8", "fp32"), Requires("depth", 2)),
    )
)
GENOMES = st.tuples(*(st.integers(0, len(gene.choices) - 1) for gene in SPACE.genes))


@given(GENOMES)
def test_genome_and_json_round_trips(row: tuple[int, ...]) -> None:
    genome = SPACE.canonical(np.array([row]))[0]
    candidate = Candidate.from_genome(SPACE, genome)
    assert (candidate.genome(SPACE) == genome).all()
    again = Candidate.from_json(json.loads(json.dumps(candidate.to_json())))
    assert again == candidate
    assert again.key == candidate.key
    assert hash(again) == hash(candidate)


@given(GENOMES, GENOMES)
def test_keys_are_equal_exactly_when_the_networks_are(
    first: tuple[int, ...], second: tuple[int, ...]
) -> None:
    genomes = SPACE.canonical(np.array([first, second]))
    one, other = (Candidate.from_genome(SPACE, genome) for genome in genomes)
    assert (one.key == other.key) == bool((genomes[0] == genomes[1]).all())


def test_what_a_small_depth_drops_is_not_in_the_candidate() -> None:
    candidate = Candidate.from_genome(SPACE, SPACE.smallest())
    assert not [name for name in candidate.values if name.startswith("blocks.1.")]


def test_with_precision_keeps_the_architecture() -> None:
    candidate = Candidate.from_genome(SPACE, SPACE.largest())
    plain = candidate.with_precision(INT8)
    assert plain.architecture == candidate.architecture
    assert set(plain.policy.values()) == {INT8}
    assert set(plain.policy) == set(candidate.policy)


def test_the_key_does_not_change_between_versions() -> None:
    """Keys name folders and ledger entries: a change would orphan them."""
    candidate = Candidate((("depth", 1),), QuantPolicy({"head": INT4}))
    text = '{"architecture":{"depth":1},"policy":{"head":"int4"}}'
    assert json.dumps(candidate.to_json(), sort_keys=True, separators=(",", ":")) == text
    assert candidate.key == "32f471c6972a"
