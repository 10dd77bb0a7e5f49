"""The contract of every family: identities between active, extracted, reordered and saved."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from hardware.formats.int4 import INT4
from hardware.formats.policy import QuantPolicy
from hardware.formats.registry import ordered
from hardware.formats.scheme import QuantScheme
from supernets.families.registry import family
from supernets.families.sizes import Sizes
from supernets.families.super_network import SuperNetwork
from supernets.layers.attention import ElasticAttention, block_cost
from supernets.layers.coupled_units import Units, gate_gradient
from supernets.load import load_saved, supernet
from supernets.settings import SpaceSettings
from supernets.space.dimensions import SizeDimension
from supernets.space.space import Choice
from supernets.tasks.embedding import Embedding
from supernets.training.order_by_importance import order_by_importance
from tests.sample_supernets import BERT, CASES, LABELS, batch, build

TINY: dict[str, tuple[float, ...]] = {
    "depth": (2, 3),
    "num_heads": (2, 4),
    "hidden_dim": (1.0,),
    "dropped_blocks": (0, 1),
    "stage_width": (1.0,),
    "inner_width": (0.5, 1.0),
    "groups": (0.5, 1.0),
}
"""Values of dimensions that make a space small enough to count."""


def architectures(
    network: SuperNetwork, settings: SpaceSettings, n: int = 6
) -> list[dict[str, Choice]]:
    space = network.space(settings)
    genomes = [space.smallest(), *space.sample(n, np.random.default_rng(0)), space.largest()]
    return [space.split(genome)[0] for genome in genomes]


@pytest.mark.parametrize(("config", "settings"), CASES)
def test_active_equals_extracted(config: Sizes, settings: SpaceSettings) -> None:
    network = build(config)
    for architecture in architectures(network, settings):
        network.activate(architecture)
        inputs = network.adapt_inputs(batch(network).inputs)
        plain = network.extract()
        torch.testing.assert_close(network(**inputs), plain(**inputs))
        assert not any("elastic" in type(m).__name__.lower() for m in plain.modules())


@pytest.mark.parametrize(("config", "settings"), CASES)
def test_dropped_blocks_keep_their_names_to_themselves(
    config: Sizes, settings: SpaceSettings
) -> None:
    network = build(config)
    for gene, order in network.block_order.items():
        network.block_order[gene] = [order[0], *reversed(order[1:])]
        network.activate({gene: 1})
        paths = [network.block_path(gene, index) + "." for index in order]
        names = network.extract().state_dict()
        kept = [any(name.startswith(path) for name in names) for path in paths]
        assert kept == [True, *[False] * (len(order) - 1)]


@pytest.mark.parametrize(("config", "settings"), CASES)
def test_reordering_keeps_the_largest_network(config: Sizes, settings: SpaceSettings) -> None:
    network = build(config)
    sample = batch(network)
    before, weights = network(**sample.inputs), network.state_dict()
    weights = {name: tensor.clone() for name, tensor in weights.items()}
    order_by_importance(network, [sample, batch(network, 4)])
    moved = [n for n, t in network.state_dict().items() if not torch.equal(t, weights[n])]
    held = {part.tensor.data_ptr() for group in network.units() for part in group.parts}
    assert len(moved) > len(held) // 2
    torch.testing.assert_close(network(**sample.inputs), before, atol=3e-5, rtol=1e-5)


@pytest.mark.parametrize(("config", "settings"), CASES)
def test_units_leave_in_falling_importance(config: Sizes, settings: SpaceSettings) -> None:
    network, sample = build(config), None
    sample = batch(network)
    order_by_importance(network, [sample])
    network.zero_grad()
    torch.nn.functional.cross_entropy(network(**sample.inputs), sample.labels).backward()
    for units in network.units():
        scores = gate_gradient(units).abs()
        assert (scores[:-1] >= scores[1:] - 1e-6).all(), units.gene


def test_blocks_of_an_embedder_leave_by_what_its_vectors_lose() -> None:
    network, task = build(BERT.model_copy(update={"depth": 4})), Embedding()
    network.read("mean")
    inputs = (sample := batch(network)).inputs
    whole = network(**inputs)
    order_by_importance(network, [sample], task)
    torch.testing.assert_close(network(**inputs), whole, atol=1e-5, rtol=1e-5)
    order = network.block_order["depth"]

    def lost(kept: list[int]) -> float:
        network.active["depth"] = sorted(kept)
        return float(task.distillation(network(**inputs), whole, 1.0).detach())

    for depth in range(4, 1, -1):
        kept = order[:depth]
        without = {block: lost([b for b in kept if b != block]) for block in kept}
        assert min(without, key=lambda block: without[block]) == kept[-1]


@pytest.mark.parametrize(("config", "settings"), CASES)
def test_gate_gradient_is_the_derivative_of_the_loss(
    config: Sizes, settings: SpaceSettings
) -> None:
    """Scaling what leaves a unit by 1 + h changes the loss by h times the score."""
    network = build(config).double()
    sample = batch(network)
    inputs = {k: v.double() if v.is_floating_point() else v for k, v in sample.inputs.items()}

    def loss() -> Tensor:
        return torch.nn.functional.cross_entropy(network(**inputs), sample.labels)

    loss().backward()
    step = 1e-6  # small enough that no rectifier bends on the way
    for units in network.units():
        score = gate_gradient(units)[0].item()
        scale_first(units, 1 + step)
        above = loss().item()
        scale_first(units, (1 - step) / (1 + step))
        below = loss().item()
        scale_first(units, 1 / (1 - step))
        assert (above - below) / (2 * step) == pytest.approx(score, abs=1e-6), units.gene


@torch.no_grad()
def scale_first(units: Units, factor: float) -> None:
    """Multiply the weights that leave the first unit."""
    for part in units.parts:
        if part.leaves:
            split = part.tensor.unflatten(part.axis, (units.count, -1))
            split.select(part.axis, 0).mul_(factor)


@pytest.mark.parametrize(("config", "settings"), CASES)
def test_cost_counts_the_extracted_network(config: Sizes, settings: SpaceSettings) -> None:
    network = build(config)
    order_by_importance(network, [batch(network)])
    space = network.space(settings)
    genomes = np.stack([space.smallest(), *space.sample(8, np.random.default_rng(0))])
    cost = network.cost(space, genomes)
    for row, genome in enumerate(genomes):
        architecture, policy = space.split(genome)
        network.activate(architecture)
        plain = network.deploy()
        assert cost.parameters[row] == sum(p.numel() for p in plain.parameters())
        modules = dict(plain.named_modules())
        for column, layer in enumerate(cost.layers):
            module = modules.get(layer.name)
            assert cost.active[row, column] == (module is not None)
            if module is None:
                continue
            sizes = tuple(module.weight.shape[:2])
            wanted = (cost.out_features[row, column], cost.in_features[row, column])
            assert sizes == wanted, layer.name
            assert (getattr(module, "bias", None) is not None) == layer.bias
            assert ordered()[cost.formats[row, column]] == policy[layer.name]


@pytest.mark.parametrize(("config", "settings"), CASES)
def test_macs_are_what_torch_counts(config: Sizes, settings: SpaceSettings) -> None:
    network = build(config)
    space = network.space(settings)
    genomes = space.sample(3, np.random.default_rng(3))
    tokens = 16
    cost = network.cost(space, genomes, sequence_length=tokens)
    for row, genome in enumerate(genomes):
        network.activate(space.split(genome)[0])
        plain, inputs = network.deploy(), network.example_inputs(1, tokens)
        counter = FlopCounterMode(display=False)
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH), counter:
            plain(**inputs)
        assert cost.macs[row] == counter.get_total_flops() // 2


@pytest.mark.parametrize(("config", "settings"), CASES)
def test_saved_network_comes_back(config: Sizes, settings: SpaceSettings, tmp_path: Path) -> None:
    network = build(config)
    order_by_importance(network, [batch(network)])
    space = network.space(settings)
    network.save(tmp_path, space)
    again = load_saved(tmp_path)
    assert again.space(settings) == space
    for architecture in architectures(network, settings, n=2):
        network.activate(architecture)
        again.activate(architecture)
        inputs = network.adapt_inputs(batch(network).inputs)
        torch.testing.assert_close(network(**inputs), again(**inputs), rtol=0, atol=0)


@pytest.mark.parametrize(("config", "settings"), CASES)
def test_policy_reaches_every_layer_and_leaves_again(
    config: Sizes, settings: SpaceSettings
) -> None:
    network = build(config)
    inputs = batch(network).inputs
    plain = network(**inputs)
    scheme = QuantScheme(group_size=None)
    names = [layer.name for layer in network.layers]
    for name in names:
        network.apply_policy(QuantPolicy({name: INT4}), scheme)
        assert not torch.equal(network(**inputs), plain), name
    network.apply_policy({}, scheme)
    torch.testing.assert_close(network(**inputs), plain, rtol=0, atol=0)


@pytest.mark.parametrize(("config", "settings"), CASES)
def test_space_size_by_brute_force(config: Sizes, settings: SpaceSettings) -> None:
    """Distinct (architecture, policy) pairs of a tiny space, counted one by one."""
    one = {"precision": {"*": ("int8",), "head": ("int8", "fp32")}}
    network = supernet(config, LABELS)
    dimensions = (d for d in family(config.family).dimensions if isinstance(d, SizeDimension))
    few = {d.name: TINY[d.name] for d in dimensions if d.name in TINY}
    if len(getattr(config, "elastic_inner_widths", ())) > 6:
        few["inner_width"] = (1.0,)
    tiny = SpaceSettings.model_validate({**few, **one})
    space = network.space(tiny)
    rows = itertools.product(*(range(len(gene.choices)) for gene in space.genes))
    distinct = {tuple(sorted(space.decode(np.array(row)).items())) for row in rows}
    assert space.size == len(distinct)


def test_more_tokens_than_positions_are_refused() -> None:
    with pytest.raises(ValueError, match="21 tokens, but the model has 20 positions"):
        build(BERT).example_inputs(1, 21)


def test_attention_in_windows_costs_what_torch_counts() -> None:
    """Blocks may be given different numbers of tokens, and look at some of them alone."""
    tokens, window, width, inner = 12, 4, 16, 8
    attention = ElasticAttention(width, num_heads=2, head_dim=4).extract()
    counter = FlopCounterMode(display=False)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH), counter:
        attention(torch.zeros(tokens // window, window, width))
    once = np.ones(1, dtype=np.int64)
    extents, macs = block_cost(
        "b", width * once, inner * once, once, tokens * once, once > 0, window=window * once
    )
    linears = [found for name, found in extents.items() if ".attention." in name]
    total = sum((x.in_features * x.out_features * x.uses for x in linears), macs)
    assert total == counter.get_total_flops() // 2
