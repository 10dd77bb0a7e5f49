"""What one InstaTune epoch costs beside a plain epoch of the same network.

Steps of both kinds are timed alternately, so that whatever else the machine does meets both.

    python benchmarks/tuning_cost.py
    python benchmarks/tuning_cost.py polish     # a step of polishing, freed memory kept or not
    python benchmarks/tuning_cost.py waiting    # the same by how threads wait, beside others too
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.low_precision import mini_lm
from cli import SPINS
from hardware.formats.int4 import INT4
from hardware.formats.scheme import QuantScheme
from supernets.data.data import TaskData
from supernets.data.text import TextSplit
from supernets.families.bert.config import BertConfig
from supernets.families.resnet.config import ResNetConfig
from supernets.families.vit.config import VitConfig
from supernets.load import load_data, load_supernet
from supernets.model_settings import ModelSettings
from supernets.settings import DataSettings, PolishSettings, SpaceSettings, TuneSettings
from supernets.training.train import Trainer, keep_freed_memory
from supernets.training.tune import InstaTuner, Polisher
from supernets.training.waiting import waiting_by_load

STEPS = 30
WARMUP = 3
LIMIT = 2.3
MODELS = {
    "ViT 6 x 96, digits": ("digits", ModelSettings.from_scratch(VitConfig())),
    "BERT 4 x 128, pydoc": ("pydoc", ModelSettings.from_scratch(BertConfig())),
    "ResNet 3 x 2 blocks, digits": ("digits", ModelSettings.from_scratch(ResNetConfig())),
}


def timed(step: Callable[[], object]) -> float:
    """Seconds of one call."""
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def step_seconds(data: TaskData, model: ModelSettings, tune: TuneSettings) -> tuple[float, float]:
    """Median seconds of a plain and of an InstaTune step, timed in turns."""
    plain_network, elastic_network = (load_supernet(model, data, seed=0).network for _ in range(2))
    space = elastic_network.space(SpaceSettings())
    plain = Trainer(plain_network, data.train, tune, seed=0)
    tuner = InstaTuner(elastic_network, space, data.train, tune, seed=0)
    pairs = [(timed(plain.step), timed(tuner.step)) for _ in range(WARMUP + STEPS)][WARMUP:]
    return statistics.median(p for p, _ in pairs), statistics.median(t for _, t in pairs)


def polisher() -> Polisher:
    """Polishes three of MiniLM's blocks."""
    network, teacher = mini_lm(), mini_lm()
    texts = [torch.stack([torch.randint(30522, (12,)), torch.zeros(12).long()])] * 64
    split = TextSplit(
        texts, torch.zeros(64).long(), pad_id=0, inputs=BertConfig().inputs, noise=None
    )
    architecture = {"depth": 3, **{f"blocks.{i}.mlp.hidden_dim": 384 for i in range(6)}}
    network.activate(architecture)
    kept = network.extract().state_dict()
    policy = {x.name: INT4 for x in network.layers if f"{x.name}.weight" in kept}
    settings = PolishSettings(epochs=100, batch_size=64, precision="bf16")
    return Polisher(network, teacher, architecture, policy, split, settings, 0, QuantScheme())


def polish_step(keep: bool) -> None:
    """Print what a step costs, on one thread."""
    if keep:
        keep_freed_memory()
    torch.set_num_threads(1)
    polished, seconds = polisher(), []
    for _ in range(WARMUP + STEPS):
        started = time.process_time()
        polished.step()
        seconds.append(time.process_time() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(f"{statistics.median(seconds[WARMUP:]) * 1e3:.0f} ms of processor time, {peak:.0f} MB")


def polish() -> None:
    """Polishing steps in fresh processes, in turns."""
    for name in ("returned", "kept") * 3:
        print(f"freed memory {name}: ", end="", flush=True)
        subprocess.run([sys.executable, __file__, f"_{name}"], check=True)


@waiting_by_load()
def waiting_step() -> None:
    """Print what a step takes, with all threads."""
    keep_freed_memory()
    polished = polisher()
    seconds = [timed(polished.step) for _ in range(WARMUP + STEPS)]
    print(f"{statistics.median(seconds[WARMUP:]) * 1e3:.0f} ms")


def waiting() -> None:
    """Polishing steps in fresh processes, in turns; beside nothing, and others that compute."""
    command = [sys.executable, __file__]
    clean = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    asleep = {"OMP_WAIT_POLICY": "PASSIVE"}
    ways = {
        "asleep": asleep,
        "as libgomp does by itself": {},
        "by load": {**asleep, "GOMP_SPINCOUNT": SPINS},
    }
    for others in (0, 1, 2):
        alone = {**clean, "OMP_NUM_THREADS": "1"}
        computing = [subprocess.Popen([*command, "_compute"], env=alone) for _ in range(others)]
        for name, how in list(ways.items()) * 3:
            print(f"beside {others}, threads wait {name}: ", end="", flush=True)
            subprocess.run([*command, "_waiting"], check=True, env={**clean, **how})
        for process in computing:
            process.kill()


def compute() -> None:
    """Keep one processor busy."""
    x = torch.randn(400, 400)
    while True:
        x @ x


def tune() -> None:
    """Print a table; fail if a ratio without quantization exceeds the limit."""
    print("| network | plain step | InstaTune step | ratio | ratio, quantization-aware |")
    print("|---|---|---|---|---|")
    ratios = []
    for title, (name, model) in MODELS.items():
        data = load_data(DataSettings(name=name), model)
        settings = TuneSettings(batch_size=32, epochs=1)
        plain, tuned = step_seconds(data, model, settings)
        aware = settings.model_copy(update={"quantization_aware": True})
        plain_again, tuned_aware = step_seconds(data, model, aware)
        ratios.append(tuned / plain)
        print(
            f"| {title} | {plain * 1e3:.1f} ms | {tuned * 1e3:.1f} ms | {ratios[-1]:.2f} "
            f"| {tuned_aware / plain_again:.2f} |"
        )
    if max(ratios) > LIMIT:
        raise SystemExit(f"an InstaTune epoch costs {max(ratios):.2f} plain ones, over {LIMIT}")


COMMANDS: dict[str, Callable[[], None]] = {
    "tune": tune,
    "polish": polish,
    "waiting": waiting,
    "_waiting": waiting_step,
    "_compute": compute,
    "_kept": lambda: polish_step(True),
    "_returned": lambda: polish_step(False),
}


if __name__ == "__main__":
    COMMANDS[sys.argv[1] if len(sys.argv) > 1 else "tune"]()
