"""The benchmark of few bits: its bytes, its codebooks and its ways to hold less in INT4."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from benchmarks import low_bits
from benchmarks.low_bits import FEW_BITS, Layer, bytes_of, decoded, even, fitted, missed
from hardware.formats.codebook.weights import CodebookQuantizer
from hardware.formats.int4_weights import Int4Quantizer
from hardware.formats.int8 import Int8Quantizer
from hardware.formats.weight_memo import Floats


def normal(*shape: int) -> Floats:
    """Weights as layers have them."""
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("columns", [384, 1536])
@pytest.mark.parametrize("group", [16, 64, 128])
def test_bytes_are_those_of_codes_steps_and_scales(columns: int, group: int) -> None:
    def bits(quantizer: low_bits.AnyQuantizer) -> float:
        return 8 * bytes_of(quantizer, 24, columns) / (24 * columns)

    few = {name: bits(CodebookQuantizer(book, group)) for name, book in FEW_BITS.items()}
    pairs_of_steps = -(-columns // group // 2)
    assert few["int2"] == pytest.approx(2 + (8 * pairs_of_steps + 32) / columns)
    assert few["int3"] == pytest.approx(3 + (8 * pairs_of_steps + 32) / columns)
    assert bits(Int4Quantizer(group)) == pytest.approx(4 + 8 / group + 32 / columns)
    assert bits(Int8Quantizer()) == pytest.approx(8 + 32 / columns)
    if group >= 64:
        assert few["int2"] <= 0.27 * bits(Int8Quantizer())


@pytest.mark.parametrize("name", FEW_BITS)
@pytest.mark.parametrize("zero", [True, False])
def test_k_means_finds_the_levels_that_weights_lie_on(name: str, zero: bool) -> None:
    """Rows made of a book's integers: from even levels, its own are found again."""
    book = FEW_BITS[name]
    codes = np.random.default_rng(0).integers(0, len(book.levels), (64, 64))
    codes[:, 0] = 0
    rows = np.array(book.levels, np.float32)[codes]
    found = fitted(even(book), rows, None, zero)
    before, after = (
        missed(rows, decoded(CodebookQuantizer(tried, None), rows)) for tried in (even(book), found)
    )
    assert after < 0.1 * before
    np.testing.assert_allclose(found.levels, book.levels, atol=0.02)
    assert not zero or 0 in found.levels


def test_even_levels_are_those_of_integers() -> None:
    assert even(FEW_BITS["int2"]).levels == (-1, -0.5, 0, 0.5)
    assert len(even(FEW_BITS["int3"]).levels) == 8


def test_holding_less_fits_the_bytes_and_finds_what_little_there_is() -> None:
    """Where four inputs, or two directions, are all there is, INT4 misses only its rounding."""
    four, full = Int4Quantizer(16), normal(96, 64)
    sparse, flat = full * (np.arange(64) % 16 == 3), normal(96, 2) @ normal(2, 64)
    limit = bytes_of(CodebookQuantizer(FEW_BITS["int2"], 16), 96, 64)
    ways = [Layer("linears", sparse).fewer_inputs, Layer("linears", flat).low_rank]
    lost = [Layer("linears", full).fewer_inputs, Layer("linears", full).low_rank]
    for way, other in zip(ways, lost, strict=True):
        (size, error), (other_size, other_error) = way(four, limit), other(four, limit)
        assert other_size == size <= limit
        assert error < 0.03 < 0.3 < other_error
        assert way(four, 1)[0] == 0
        assert way(four, 1)[1] == pytest.approx(1)


def test_a_table_per_kind_of_layer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = {
        "embeddings.word.weight": torch.from_numpy(normal(40, 32)),
        "embeddings.position_ids": torch.arange(8)[None],
        "fc.weight": torch.from_numpy(normal(8, 32)),
        "fc.bias": torch.zeros(8),
        "conv.weight": torch.from_numpy(normal(8, 4, 3, 3)),
    }
    save_file(weights, tmp_path / "model.safetensors")
    monkeypatch.setattr(low_bits, "GROUPS", (16, None))
    monkeypatch.setattr("sys.argv", ["low_bits", str(tmp_path)])
    low_bits.main()
    printed = capsys.readouterr().out
    assert re.findall(r"(\w+), ([\d,]+) weights", printed) == [
        ("convolutions", "288"), ("embeddings", "1,280"), ("linears", "256"),
    ]  # fmt: skip
    rows = re.findall(r"│ (int\d[^│]*?) +│ ([\d.]+) +│ ([\d.]+) +│ ([\d.]+) +│", printed)
    linears = {title: tuple(map(float, row)) for title, *row in rows[-len(rows) // 3 :]}
    assert len(linears) == 2 * (1 + 2 * 6)
    for few in FEW_BITS:
        own, k_means = (linears[f"{few}, groups of 16{x}"] for x in ("", ", k-means per layer"))
        assert own[0] == k_means[0]
        assert own[2] >= k_means[2] > linears["int4, groups of 16"][2]
