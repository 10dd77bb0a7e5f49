"""Training: formulas, resumability, and what the super-network is trained on."""

from __future__ import annotations

import contextlib
import gc
import math
import platform
import subprocess
import sys
import weakref
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace
from itertools import islice, pairwise
from typing import Any

import pytest
import torch
from sklearn.metrics import r2_score
from torch.nn import functional as F

from hardware.formats.format import Format
from hardware.formats.fp32 import FP32
from hardware.formats.int4 import INT4
from hardware.formats.int8 import INT8
from hardware.formats.scheme import QuantScheme
from supernets.data.data import Batch, Split
from supernets.data.images import ImageSplit
from supernets.data.text import TextPreprocessor, TextSplit
from supernets.families.bert.config import BertConfig
from supernets.families.resnet.config import ResNetConfig
from supernets.families.resnet.network import ResNetSuperNetwork
from supernets.families.super_network import SuperNetwork
from supernets.families.vit.config import VitConfig
from supernets.layers.batch_norm import needs_two_samples, recalibrate
from supernets.load import load_data, load_supernet
from supernets.model_settings import ModelSettings
from supernets.settings import (
    DataSettings,
    PolishSettings,
    SpaceSettings,
    TrainSettings,
    TuneSettings,
)
from supernets.tasks.task import divergence
from supernets.training.answers import Answers
from supernets.training.train import NonFiniteLossError, Trainer, schedule, score
from supernets.training.tune import (
    InstaTuner,
    Polisher,
    _floats,
    feature_distance,
    outputs_of,
    unexplained,
)

MODEL = ModelSettings.from_scratch(
    VitConfig(image_size=16, patch_size=8, embed_dim=16, depth=2, num_heads=2, hidden_dim=16)
)
RESNET = ModelSettings.from_scratch(
    ResNetConfig(
        image_size=16, depths=(2, 2), stage_widths=(8, 16), inner_widths=(8, 16), stem_width=8
    )
)
DATA = load_data(DataSettings(name="digits", image_size=16), MODEL)
assert isinstance(MODEL.sizes, VitConfig)
assert isinstance(DATA.train, ImageSplit)
IMAGES = DATA.train
VIT3 = MODEL.sizes.model_copy(update={"depth": 3})
BERT3 = BertConfig(embed_dim=16, depth=3, num_heads=2, hidden_dim=16, vocab_size=512)
TEXTS = load_data(
    DataSettings(name="pydoc", max_length=24, max_train=400), ModelSettings.from_scratch(BERT3)
)
TRAIN = TrainSettings(epochs=2, batch_size=250)
TUNE = TuneSettings(epochs=2, batch_size=250)


def fresh(model: ModelSettings = MODEL) -> Any:
    return load_supernet(model, DATA, seed=0).network


def tuner(network: SuperNetwork, **settings: Any) -> InstaTuner:
    space = network.space(SpaceSettings())
    return InstaTuner(network, space, DATA.train, TUNE.model_copy(update=settings), seed=5)


def test_schedule_rises_to_one_and_falls_to_zero() -> None:
    rates = [schedule(step, 100, 0.1) for step in range(100)]
    assert rates[:10] == pytest.approx([(i + 1) / 11 for i in range(10)])
    assert rates[10] == 1
    assert rates[55] == pytest.approx(0.5 * (1 + math.cos(math.pi / 2)))
    assert all(a > b for a, b in pairwise(rates[10:]))
    assert rates[-1] < 1e-3


def test_distillation_is_the_kullback_leibler_divergence() -> None:
    student, teacher = torch.randn(2, 4, 3)
    p, q = (F.softmax(x / 2, dim=1) for x in (teacher, student))
    expected = (p * (p / q).log()).sum(1).mean() * 4
    torch.testing.assert_close(divergence(student, teacher, 2.0), expected)
    assert divergence(teacher, teacher, 2.0).abs() < 1e-6


def test_gradient_is_that_of_the_written_loss() -> None:
    """0.3 cross-entropy of both, 0.7 divergence of the sub-network from the fixed full network."""
    network = fresh()
    trainer = tuner(network)
    batch = next(DATA.train.batches(32))
    trainer.backward(batch)
    given = {name: p.grad.clone() for name, p in network.named_parameters()}
    network.zero_grad()
    full = network(**batch.inputs)
    trainer._draw(0)
    small = network(**batch.inputs)
    ce = [F.cross_entropy(x, batch.labels, label_smoothing=0.1) for x in (full, small)]
    loss = 0.3 * sum(ce) + 0.7 * divergence(small, full.detach(), 1.0)
    loss.backward()
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(given[name], parameter.grad, msg=name)


def test_teacher_is_the_network_before_tuning() -> None:
    network = fresh()
    trainer = tuner(network, teacher=True)
    before = {name: p.clone() for name, p in network.state_dict().items()}
    for _ in range(3):
        trainer.step()
    assert trainer.teacher is not None
    for name, tensor in trainer.teacher.state_dict().items():
        assert torch.equal(tensor, before[name])
        assert not tensor.requires_grad


@pytest.mark.parametrize("kind", ["plain", "tune", "tune-resnet"])
def test_resuming_at_any_step_ends_in_the_same_network(kind: str) -> None:
    def start() -> Trainer:
        network = fresh(RESNET if kind == "tune-resnet" else MODEL)
        if kind == "plain":
            return Trainer(network, DATA.train, TRAIN, 5)
        return tuner(network, relative_rates=kind == "tune")

    whole = start()
    states = []
    whole.run(checkpoint=lambda t: states.append({k: v.clone() for k, v in t.state().items()}))
    assert len(states) == 8
    for state in states[1:6:2]:
        resumed = start()
        resumed.restore(state)
        resumed.run()
        for name, tensor in whole.network.state_dict().items():
            assert torch.equal(tensor, resumed.network.state_dict()[name]), name


def polisher(
    network: SuperNetwork,
    architecture: Mapping[str, int],
    policy: Mapping[str, Format],
    split: Split = DATA.train,
    teacher: SuperNetwork | None = None,
    **settings: Any,
) -> Polisher:
    polish = PolishSettings(epochs=2, batch_size=250, **settings)
    teacher = deepcopy(network) if teacher is None else teacher
    return Polisher(network, teacher, architecture, policy, split, polish, 5, QuantScheme())


def asked(polish: Polisher, batch: Batch) -> Answers:
    answers = polish._teach(batch)
    assert answers is not None
    return answers


def missed(polish: Polisher, batch: Batch) -> float:
    """What the blocks leave unexplained of the teacher's."""
    teacher = asked(polish, batch)
    polish.network.activate(polish.architecture)
    given = polish._answer(polish.network, batch.inputs, polish.blocks)
    assert len(given.outputs) == len(list(polish.network.path())) - 1 > 0
    return polish._distance(given, teacher, batch.inputs).item()


def test_polishing_the_full_network_on_labels_alone_is_plain_training() -> None:
    trained, polished = fresh(), fresh()
    Trainer(trained, DATA.train, TRAIN, 5).run()
    polisher(polished, {}, {}, hard_label_weight=1.0, learning_rate=TRAIN.learning_rate).run()
    for name, tensor in trained.state_dict().items():
        torch.testing.assert_close(polished.state_dict()[name], tensor, msg=name)


def test_polishing_teaches_the_sub_network_under_its_policy() -> None:
    """Gradient of the written loss; nothing outside the sub-network moves."""
    network = fresh()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    architecture = {"depth": 1, "blocks.0.mlp.hidden_dim": 8, "blocks.1.mlp.hidden_dim": 8}
    policy = {"blocks.0.mlp.fc1": INT4, "head": INT8}
    batch = next(DATA.train.batches(32))
    with torch.no_grad():
        teacher = network(**batch.inputs)
        seen = network.features(**batch.inputs)
    polish = polisher(network, architecture, policy, weight_decay=0.1, feature_weight=0.5)
    polish.backward(batch)
    given = {name: p.grad for name, p in network.named_parameters()}
    reference = fresh()
    reference.activate(architecture)
    reference.apply_policy(policy, QuantScheme())
    logits = reference(**batch.inputs)
    hard = F.cross_entropy(logits, batch.labels, label_smoothing=0.1)
    features = reference.features(**batch.inputs)
    cosine = (features * seen).sum(1) / features.norm(dim=1) / seen.norm(dim=1)
    (0.3 * hard + 0.7 * divergence(logits, teacher, 1.0) + 0.5 * (1 - cosine).mean()).backward()
    for name, parameter in reference.named_parameters():
        own, expected = given[name], parameter.grad
        if own is not None and expected is not None:  # of the active part alone
            part = expected[tuple(map(slice, own.shape))]
            assert expected.count_nonzero() == part.count_nonzero(), name
            expected = part
        torch.testing.assert_close(own, expected, msg=name)
    polish.run()
    after = network.state_dict()
    assert torch.equal(after["blocks.0.mlp.fc1.weight"][8:], before["blocks.0.mlp.fc1.weight"][8:])
    assert not torch.equal(after["head.weight"], before["head.weight"])
    assert polish.teacher is not None
    for name, tensor in polish.teacher.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_a_narrow_students_features_meet_the_first_of_the_teachers() -> None:
    teacher = torch.randn(5, 8)
    scaled = teacher[:, :3] * torch.rand(5, 1)
    assert feature_distance(scaled, teacher) == pytest.approx(0, abs=1e-6)
    assert feature_distance(-scaled, teacher) == pytest.approx(2)


def test_unexplained_is_one_minus_r_squared_of_the_teachers_first_features() -> None:
    teacher = torch.randn(500, 8) * torch.logspace(-0.3, 0.3, 8) + 3
    student = teacher[:, :5] + torch.randn(500, 5)
    expected = 1 - r2_score(teacher[:, :5], student)
    assert unexplained(student, teacher).item() == pytest.approx(expected, rel=1e-4)
    assert unexplained(1e6 * student, 1e6 * teacher).item() == pytest.approx(expected, rel=1e-4)
    assert unexplained(teacher[:, :5], teacher) == 0


def test_features_that_hardly_vary_do_not_drown_the_others() -> None:
    """Before, a tenth of all with the same error as the rest weighed 10^9 times as much."""
    teacher, missed = torch.randn(500, 20), 0.1 * torch.randn(500, 20)
    teacher[:, 18:] *= 1e-5
    lively = unexplained(teacher[:, :18] + missed[:, :18], teacher[:, :18]).item()
    assert unexplained(teacher + missed, teacher).item() < 3 * lively
    assert unexplained(torch.ones(9, 3), torch.ones(9, 3)) == 0


FAMILIES = {
    "vit": (ModelSettings.from_scratch(VIT3), {"depth": 2}, "blocks.1"),
    "resnet": (RESNET, {"stages.0.depth": 1}, "stages.0.1"),
    "bert": (ModelSettings.from_scratch(BERT3), {"depth": 2}, "blocks.1"),
}


def family(name: str) -> tuple[Any, dict[str, int], str, Split]:
    """A network without block 1 in its smaller depth, that depth, and a batch for it."""
    model, architecture, block = FAMILIES[name]
    network = fresh(model) if name != "bert" else load_supernet(model, TEXTS, seed=0).network
    gene = next(iter(architecture))
    network.block_order[gene].remove(1)
    network.block_order[gene].append(1)
    split = (TEXTS if name == "bert" else DATA).train
    return network, architecture, block, split


@pytest.mark.parametrize("name", FAMILIES)
def test_a_block_that_does_nothing_is_not_missed(name: str) -> None:
    """What a block puts out is compared with what the next kept one is given in the teacher."""
    network, architecture, block, split = family(name)
    batch = next(split.batches(20))
    distances = []
    for fill in (torch.nn.init.zeros_, torch.nn.init.normal_):
        network.activate({})
        for tensor in network.branch_outputs(block):
            fill(tensor)
        polish = polisher(network.eval(), architecture, {}, split, block_weight=1.0)
        distances.append(missed(polish, batch))
    assert distances[0] == pytest.approx(0, abs=1e-4)
    assert distances[1] > 0.1


@pytest.mark.parametrize("name", FAMILIES)
def test_polishing_brings_the_blocks_outputs_nearer(name: str) -> None:
    losses = {}
    for weight in (0.0, 5.0):
        network, architecture, _, split = family(name)
        settings: dict[str, Any] = {"hard_label_weight": 0.0, "learning_rate": 3e-3}
        polish = polisher(network, architecture, {}, split, block_weight=weight, **settings)
        polish.run()
        judge = polisher(network, architecture, {}, split, polish.teacher, block_weight=1.0)
        losses[weight] = missed(judge, next(split.batches(200)))
    assert losses[5.0] < 0.9 * losses[0.0]


def test_padding_is_not_compared() -> None:
    network, _, _, split = family("bert")
    batch = next(split.batches(8))
    real = batch.inputs["attention_mask"].bool()
    assert not real.all()
    own, full = torch.randn(2, *real.shape, 4)
    rows = network.aligned(own, full, batch.inputs)
    expected = [own[b, t] for b in range(8) for t in range(real.shape[1]) if real[b, t]]
    assert torch.equal(rows[0], torch.stack(expected))
    assert rows[1].shape == rows[0].shape


def test_a_patch_of_a_small_image_is_compared_with_the_mean_of_those_it_covers() -> None:
    model = ModelSettings.from_scratch(VIT3.model_copy(update={"patch_size": 4}))
    network = fresh(model)
    network.activate({"resolution": 8})
    own, full = torch.randn(2, 1 + 4, 16), torch.randn(2, 1 + 16, 16)
    first, second = network.aligned(own, full, {})
    assert torch.equal(first, own.reshape(10, 16))
    corner = torch.stack([full[1, 1 + place] for place in (0, 1, 4, 5)]).mean(0)
    torch.testing.assert_close(second[6], corner)
    assert torch.equal(second[5], full[1, 0])


@pytest.mark.parametrize("augmented", [False, True])
def test_the_teacher_is_asked_once_about_samples_that_never_change(augmented: bool) -> None:
    split = DATA.train if augmented else replace(IMAGES, augmentation=None)
    polish = polisher(fresh(), {"depth": 1}, {}, split=split, feature_weight=1.0)
    teacher, calls = polish.teacher, []
    assert teacher is not None
    teacher.head.register_forward_pre_hook(lambda _, inputs: calls.append(1))
    batches = list(split.batches(250, generator=torch.Generator().manual_seed(3)))
    given = [asked(polish, batch) for batch in batches]
    assert len(calls) == len(batches)
    assert all(
        torch.equal(asked(polish, batch).logits, answers.logits)
        for batch, answers in zip(batches, given, strict=True)
    )
    assert len(calls) == len(batches) * (2 if augmented else 1)
    for batch, answers in zip(batches, given, strict=True):
        torch.testing.assert_close(answers.logits, teacher(**batch.inputs))
        torch.testing.assert_close(teacher.head(answers.features), answers.logits)


@pytest.mark.parametrize("kind", ["plain", "tune", "polish"])
def test_a_finished_trainer_frees_its_memory_at_once(kind: str) -> None:
    """Its moments and its teacher are larger than the network; a run may polish dozens."""
    gc.collect()
    gc.disable()
    try:
        network = fresh()
        make: dict[str, Callable[[], Trainer]] = {
            "plain": lambda: Trainer(network, DATA.train, TRAIN, 5),
            "tune": lambda: tuner(network, teacher=True),
            "polish": lambda: polisher(network, {}, {}),
        }
        trainer = make[kind]()
        trainer.run()
        alive = weakref.ref(trainer)
        del trainer
        assert alive() is None
    finally:
        gc.enable()


def test_same_seed_same_network_other_seed_other_network() -> None:
    weights = []
    for seed in (1, 1, 2):
        network = fresh()
        Trainer(network, DATA.train, TRAIN, seed).run()
        weights.append(network.patch_embed.weight.detach().clone())
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_progress_counts_every_step() -> None:
    seen = []
    Trainer(fresh(), DATA.train, TRAIN, 0).run(progress=lambda *told: seen.append(told))
    assert [step for step, _, _ in seen] == list(range(1, 9))
    assert {total for _, total, _ in seen} == {8}
    assert all(math.isfinite(losses["loss"]) for _, _, losses in seen)


def test_norms_biases_and_tokens_are_not_decayed() -> None:
    network = fresh()
    trainer = Trainer(network, DATA.train, TRAIN.model_copy(update={"weight_decay": 0.1}), 0)
    spared = {
        id(p) for g in trainer.optimizer.param_groups if not g["weight_decay"] for p in g["params"]
    }
    names = {name for name, p in network.named_parameters() if id(p) in spared}
    expected = {
        name
        for name, _ in network.named_parameters()
        if name.endswith("bias") or "norm" in name or name in ("cls_token", "pos_embed")
    }
    assert names == expected


@pytest.mark.parametrize("relative", [False, True])
def test_small_weights_move_less_where_rates_are_relative(relative: bool) -> None:
    """Adam's first step is the rate itself."""
    network, rate = fresh(), 1e-3
    blocks = network.blocks["0"]
    with torch.no_grad():
        blocks.mlp.fc2.weight.mul_(0.05 / 16 / blocks.mlp.fc2.weight.square().mean().sqrt())
        blocks.attention.out.weight.mul_(
            0.05 / 3 / blocks.attention.out.weight.square().mean().sqrt()
        )
        network.head.weight.mul_(0.01)
    settings = TRAIN.model_copy(
        update={"relative_rates": relative, "learning_rate": rate, "weight_decay": 0.0}
    )
    trainer = Trainer(network, DATA.train, settings, 0)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    trainer.step()
    first = rate * schedule(0, trainer.total_steps, settings.warmup_fraction)
    shares = {
        name: float((p.detach() - before[name]).abs().max()) / first
        for name, p in network.named_parameters()
    }
    small = {"blocks.0.mlp.fc2.weight": 1 / 16, "blocks.0.attention.out.weight": 1 / 4}
    for name, share in shares.items():
        if name in small or name.endswith(("out.bias", "head.weight", "fc1.weight")):
            assert share == pytest.approx(small.get(name, 1.0) if relative else 1.0, rel=0.01), name
    if not relative:
        assert len(trainer.optimizer.param_groups) == 2


def test_training_learns() -> None:
    network = fresh()
    settings = TrainSettings(epochs=8, batch_size=50, learning_rate=3e-3)
    Trainer(network, DATA.train, settings, 0).run()
    assert score(network, DATA.validation) > 0.6


def test_sub_networks_are_drawn_all_over_the_space() -> None:
    network = fresh()
    trainer, drawn = tuner(network), set()
    for step in range(40):
        trainer.step_number = step
        trainer._draw(0)
        drawn.add((tuple(network.active_blocks), network.block(0).attention.query.active_out))
    assert len(drawn) >= 4


def test_quantization_aware_sub_networks_carry_a_policy_only_while_they_train() -> None:
    network = fresh()
    trainer = tuner(network, quantization_aware=True)
    trainer._draw(0)
    precisions = {network.get_submodule(layer.name).precision for layer in network.layers}
    assert len(precisions) > 1
    trainer.step()
    for layer in network.layers:
        assert network.get_submodule(layer.name).precision == FP32


def test_low_precision_costs_less_after_tuning_under_it() -> None:
    policy = {layer.name: INT4 for layer in fresh().layers}
    trained, costs = fresh(), {}
    training = TRAIN.model_copy(update={"epochs": 8, "batch_size": 50, "learning_rate": 3e-3})
    Trainer(trained, DATA.train, training, 0).run()
    for aware in (False, True):
        network = deepcopy(trained)
        settings = TuneSettings(epochs=4, batch_size=50, quantization_aware=aware)
        space = network.space(
            SpaceSettings(depth=(2,), num_heads=(2,), hidden_dim=(16,), precision={"*": ("int4",)})
        )
        InstaTuner(network, space, DATA.train, settings, 0).run()
        losses = {}
        for name, applied in (("fp32", {}), ("int4", policy)):
            network.apply_policy(applied, QuantScheme())
            losses[name] = sum(
                F.cross_entropy(network(**batch.inputs), batch.labels).item()
                for batch in DATA.validation.batches(397)
            )
        costs[aware] = losses["int4"] - losses["fp32"]
    assert costs[True] < costs[False]


def test_batch_norm_statistics_follow_the_full_network_only() -> None:
    network = fresh(RESNET)
    trainer = tuner(network)
    twin = fresh(RESNET).train()
    batch = next(islice(DATA.train.batches(100), 1))
    network.train()
    trainer.backward(batch)
    twin(**batch.inputs)
    for (name, ours), theirs in zip(network.named_buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, msg=name)


@pytest.mark.parametrize(("side", "alone"), [(4, True), (8, False), (5, False)])
def test_networks_that_need_two_samples_are_those_torch_refuses(side: int, alone: bool) -> None:
    """Two halvings: maps of four pixels end as one."""
    config = ResNetConfig(
        image_size=side, depths=(1, 1, 1), stage_widths=(4, 4, 4), inner_widths=(4, 4, 4)
    )
    network = ResNetSuperNetwork(config, 3)
    example = network.example_inputs(1)
    assert needs_two_samples(network, example) is alone
    refused = pytest.raises(ValueError, match="more than 1 value per channel")
    with refused if alone else contextlib.nullcontext():
        network.train()(**example)


def test_recalibrated_statistics_are_those_of_the_batches() -> None:
    network = fresh(RESNET)
    network.activate({"stages.0.width": 8, "stages.1.depth": 1})
    batches = list(DATA.train.batches(1000))
    plain = network.extract()
    recalibrate(plain, batches)
    seen: dict[str, torch.Tensor] = {}
    plain.stem.conv.register_forward_hook(lambda *a: seen.update(out=a[2]))
    with torch.no_grad():
        plain(**batches[0].inputs)
    torch.testing.assert_close(plain.stem.norm.running_mean, seen["out"].mean((0, 2, 3)))
    torch.testing.assert_close(plain.stem.norm.running_var, seen["out"].var((0, 2, 3)))
    deployed = network.deploy(batches)
    with torch.no_grad():
        torch.testing.assert_close(
            deployed(**batches[0].inputs), plain(**batches[0].inputs), atol=1e-5, rtol=1e-4
        )
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in deployed.modules())


def test_empty_training_split_is_refused() -> None:
    empty = replace(IMAGES, pixels=IMAGES.pixels[torch.arange(0)], labels=IMAGES.labels[:0])
    with pytest.raises(ValueError, match="training split is empty"):
        Trainer(fresh(), empty, TRAIN, 0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_missing_gpu_is_refused() -> None:
    settings = TRAIN.model_copy(update={"device": "cuda"})
    with pytest.raises(ValueError, match="cuda is asked for, but torch finds no GPU"):
        Trainer(fresh(), DATA.train, settings, 0)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator alone")
def test_freed_memory_is_kept_while_training() -> None:
    """Pages of a large tensor are mapped once, not every time one is made."""
    code = """
import resource, torch
from supernets.training.train import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(1 << 24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

returned = faults()
keep_freed_memory()
faults()
print(returned, faults())
"""
    command = [sys.executable, "-c", code]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    returned, kept = map(int, printed.split())
    assert kept < returned / 10


@pytest.mark.parametrize("tuned", [False, True])
def test_a_loss_that_is_not_finite_stops_before_the_weights_are_spoilt(tuned: bool) -> None:
    network, seen = fresh(), []
    settings = TRAIN.model_copy(update={"learning_rate": 1e30})
    trainer = Trainer(network, DATA.train, settings, seed=0)
    trainer = tuner(network, learning_rate=1e30) if tuned else trainer
    with pytest.raises(NonFiniteLossError, match=r"is (nan|inf).* at step \d+ of .*now 1e\+30"):
        trainer.run(progress=lambda step, total, losses: seen.append(step))
    assert trainer.step_number == len(seen) > 0
    assert all(torch.isfinite(tensor).all() for tensor in network.state_dict().values())


def noisy_texts() -> TextSplit:
    assert isinstance(TEXTS.train, TextSplit)
    assert isinstance(TEXTS.preprocessor, TextPreprocessor)
    return TEXTS.train.noisy(0.3, TEXTS.preprocessor.tokenizer)


def text_polisher(kept_share: float) -> Polisher:
    """Of two blocks of three, on noisy texts."""
    network = load_supernet(ModelSettings.from_scratch(BERT3), TEXTS, seed=0).network
    polish = polisher(
        network, {"depth": 2}, {}, split=noisy_texts(), feature_weight=1.0, block_weight=0.5
    )
    polish.kept_share = kept_share
    return polish


@pytest.mark.parametrize("kept_share", [0.0, 1.0])
def test_a_teacher_reads_texts_without_their_noise(kept_share: float) -> None:
    """Once, if there is memory for what its blocks put out."""
    polish = text_polisher(kept_share)
    teacher, calls = polish.teacher, []
    assert teacher is not None
    teacher.head.register_forward_pre_hook(lambda _, inputs: calls.append(1))
    batches = list(polish.split.batches(250, generator=torch.Generator().manual_seed(3)))
    for batch in batches:
        clean = TEXTS.train.batch(batch.rows).inputs
        assert not torch.equal(clean["input_ids"], batch.inputs["input_ids"])
        given = asked(polish, batch)
        called = len(calls)
        with outputs_of(polish.compared) as outputs:
            torch.testing.assert_close(given.logits, teacher(**clean))
        del calls[called:]
        real = clean["attention_mask"] > 0
        assert len(given.outputs) == len(outputs) == 1
        torch.testing.assert_close(_floats(given.outputs[0])[real], _floats(outputs[0])[real])
    asked(polish, batches[0])
    assert len(calls) == len(batches) + (0 if kept_share else 1)


def test_what_is_kept_of_a_teacher_teaches_as_it_does() -> None:
    kept, anew = text_polisher(1.0), text_polisher(0.0)
    for _ in range(3):
        assert kept.step()["loss"] == pytest.approx(anew.step()["loss"], rel=1e-4)
    for name, tensor in anew.network.state_dict().items():
        torch.testing.assert_close(kept.network.state_dict()[name], tensor, atol=1e-5, rtol=1e-3)
