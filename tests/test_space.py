"""Genes and genomes: brute force over spaces small enough to list."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from hardware.formats.fp32 import FP32
from supernets.space.space import Choice, Gene, Genomes, Requires, SearchSpace

SPACE = SearchSpace(
    (
        Gene("depth", (1, 2, 3)),
        Gene("a.width", (8, 16)),
        Gene("b.width", (8, 16, 24), Requires("depth", 2)),
        Gene.precision("b.fc", ("int8", "fp32"), Requires("depth", 2)),
        Gene("c.width", (8, 16), Requires("depth", 3)),
    )
)


def every_genome(space: SearchSpace) -> Genomes:
    rows = itertools.product(*(range(len(gene.choices)) for gene in space.genes))
    return np.array(list(rows), dtype=np.int64)


def test_size_counts_distinct_networks() -> None:
    networks = {tuple(sorted(SPACE.decode(g).items())) for g in every_genome(SPACE)}
    assert SPACE.size == len(networks) == 2 * (1 + 3 * 2 + 3 * 2 * 2)


def test_canonical_genomes_and_networks_are_one_to_one() -> None:
    canonical = {tuple(row) for row in SPACE.canonical(every_genome(SPACE))}
    networks = {tuple(sorted(SPACE.decode(np.array(row)).items())) for row in canonical}
    assert len(canonical) == len(networks) == SPACE.size


def test_decode_and_encode_are_inverse() -> None:
    for genome in SPACE.canonical(every_genome(SPACE)):
        assert np.array_equal(SPACE.encode(SPACE.decode(genome)), genome)


def test_sampling_is_uniform_per_gene_and_seeded() -> None:
    drawn = SPACE.sample(3000, np.random.default_rng(0))
    assert np.array_equal(drawn, SPACE.canonical(drawn))
    assert np.array_equal(drawn, SPACE.sample(3000, np.random.default_rng(0)))
    np.testing.assert_allclose(np.bincount(drawn[:, 0]) / 3000, 1 / 3, atol=0.04)


def test_smallest_and_largest_are_ends() -> None:
    assert SPACE.decode(SPACE.smallest()) == {"depth": 1, "a.width": 8}
    assert SPACE.decode(SPACE.largest())["b.width"] == 24


def test_json_round_trip() -> None:
    assert SearchSpace.from_json(json.loads(json.dumps(SPACE.to_json()))) == SPACE


def test_a_space_of_version_0_1_is_read() -> None:
    """It wrote no kinds."""
    old = [{k: v for k, v in gene.items() if k != "kind"} for gene in SPACE.to_json()]
    assert SearchSpace.from_json(json.loads(json.dumps(old))) == SPACE


def test_names_as_choices_are_no_precisions() -> None:
    """Whatever a gene is called and whatever its choices look like: its kind tells."""
    space = SearchSpace(
        (
            Gene("depth", (1, 2)),
            Gene("rounding.precision", ("coarse", "fp32"), kind="choice"),
            Gene.precision("fc", ("int8", "fp32"), Requires("depth", 2)),
        )
    )
    architecture, policy = space.split(space.largest())
    assert architecture == {"depth": 2, "rounding.precision": "fp32"}
    assert dict(policy) == {"fc": FP32}
    assert dict(space.split(space.smallest())[1]) == {}
    assert space.of_kind("choice", "precision").tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"depth": 4, "a.width": 8}, r"gene depth: 4 is not a choice; allowed are \[1, 2, 3\]"),
        ({"depth": 1, "a.width": 8, "d": 1}, r"unknown genes \['d'\]"),
        ({"depth": 2, "a.width": 8, "b.width": 8}, r"without a value: \['b.fc.precision'\]"),
    ],
)
def test_values_outside_the_space_are_refused(values: dict[str, Choice], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SPACE.encode(values)


def test_malformed_genes_are_refused() -> None:
    with pytest.raises(ValueError, match="list of choices is empty"):
        Gene("a", ())
    with pytest.raises(ValueError, match="choices repeat"):
        Gene("a", (1, 1))
    with pytest.raises(ValueError, match="names repeat"):
        SearchSpace((Gene("a", (1,)), Gene("a", (1,))))
    with pytest.raises(ValueError, match="requires unknown gene b"):
        SearchSpace((Gene("a", (1,), Requires("b", 1)),))
