"""Whether exported models answer alike in every runtime, and what their plain form costs.

    python benchmarks/portability.py write FOLDER
    python benchmarks/portability.py matrix FOLDER --runtime NAME[@PLACE] ... [--samples N]
    python benchmarks/portability.py forms FOLDER OTHER-FOLDER
    python benchmarks/portability.py trained RUN-FOLDER ... --runtime NAME[@PLACE] ...

The first three take `--only NAME ...`.
`write` makes the models of the three families in fp32, int8 and int4, randomly initialised at
their real sizes; with PYTHONPATH naming another checkout, as that one writes them. `matrix` runs
them in the runtimes named, `forms` compares bytes, load time and latency of two such folders.
`trained` asks the runtimes about every test sample of finished runs (of one size and vocabulary).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

sys.path.append(str(Path(__file__).resolve().parents[1]))  # behind PYTHONPATH: see above

from benchmarks import low_precision
from hardware.formats.scheme import QuantScheme
from hardware.latency import run_times
from hardware.portability.agreement import Agreement, Samples, compare
from hardware.portability.runtimes import Arrays, Runtime, parse_runtime
from hardware.session import open_session, predict
from hardware.target import Target
from hardware.writing.calibrate import calibrate
from hardware.writing.materialize import arrays, materialize, save_model
from nas.api import load_run
from supernets.families.image_transformer import ImageSuperNetwork
from supernets.families.resnet.network import ResNetSuperNetwork
from supernets.families.super_network import SuperNetwork
from supernets.families.vit.config import VitConfig
from supernets.layers.batch_norm import fold
from supernets.load import load_data

PRECISIONS = ("fp32", "int8", "int4", "int8-qdq")
"""`int8` in the target's own style; transformers, whose own is dynamic, in QDQ as well."""
TOKENS = 16
AT_ONCE = 50
"""Samples of one call: what a large batch of images takes stays below a few GB."""
LOADS = 15
SMALL_VIT = VitConfig(
    image_size=32, patch_size=4, channels=3, embed_dim=96, depth=4, num_heads=6, hidden_dim=384
)

NETWORKS: dict[str, Callable[[], SuperNetwork]] = {
    "small ViT": lambda: low_precision.randomised(ImageSuperNetwork(SMALL_VIT, 10)),
    "MiniLM": lambda: low_precision.mini_lm(),
    "ViT-B/16": lambda: low_precision.vit_b16(),
    "ResNet-50": lambda: low_precision.resnet50(),
}


HEADING = """| model | runtime | largest difference | allowed | same top 1 | ms |
|---|---|---|---|---|---|"""


def write(folder: Path, names: Sequence[str]) -> None:
    """Write every network in every precision, as `<network>-<precision>.onnx`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        network = NETWORKS[name]()
        plain = network.extract()
        convolutional = isinstance(network, ResNetSuperNetwork)
        plain = fold(plain) if convolutional else plain
        template, weights = low_precision.template_of(network, plain), arrays(plain.state_dict())
        qdq = QuantScheme(linear="qdq")
        samples = {name: tensor.numpy() for name, tensor in network.example_inputs().items()}
        ranges = calibrate(template, weights, qdq, [samples])
        for precision in PRECISIONS[: 3 if convolutional else 4]:
            policy = low_precision.uniform(template, precision.partition("-")[0])
            scheme = qdq if precision == "int8-qdq" else QuantScheme()
            model = materialize(template, weights, policy, scheme, ranges)
            save_model(model, folder / f"{name.replace('/', '_')}-{precision}.onnx")


def models_of(folder: Path, names: Sequence[str]) -> Iterator[tuple[str, str, Path]]:
    """Network, precision and file of what `write` left in a folder."""
    for name in names:
        for precision in PRECISIONS:
            path = folder / f"{name.replace('/', '_')}-{precision}.onnx"
            if path.exists():
                yield name, precision, path


def random_inputs(path: Path, samples: int, rng: np.random.Generator) -> Arrays:
    """Noise for a model's inputs: images, or texts of random tokens with nothing masked."""
    session = open_session(str(path), Target())
    shapes = {value.name: value.shape for value in session.get_inputs()}
    if "pixel_values" in shapes:
        size = [samples, *shapes["pixel_values"][1:]]
        return {"pixel_values": rng.standard_normal(size, np.float32)}
    ids = rng.integers(0, low_precision.MINI_LM.vocab_size, (samples, TOKENS))
    made = {"input_ids": ids, "attention_mask": ids * 0 + 1, "token_type_ids": ids * 0}
    return {name: made[name] for name in shapes}


def run_everywhere(path: Path, runtimes: Sequence[Runtime], samples: int) -> list[Agreement]:
    """A model's answers in every runtime beside those of ONNX Runtime here, over all samples."""
    rng = np.random.default_rng(0)
    portions = (min(AT_ONCE, samples - start) for start in range(0, samples, AT_ONCE))
    return agreements(path, runtimes, (random_inputs(path, size, rng) for size in portions))


def agreements(
    path: Path, runtimes: Sequence[Runtime], portions: Iterable[Arrays]
) -> list[Agreement]:
    """The same over given inputs."""
    session = open_session(str(path), Target())
    stored = [Samples.of(inputs, lambda given: predict(session, [given])) for inputs in portions]
    found = [compare(path, samples, runtimes) for samples in stored]
    return [_together(parts) for parts in zip(*found, strict=True)]


def _together(parts: Sequence[Agreement]) -> Agreement:
    """One row of what was measured in portions (of equal size, but for the last)."""
    failed = next((part for part in parts if part.failure is not None), None)
    return failed or replace(
        parts[0],
        difference=max(part.difference for part in parts),
        tolerance=max(part.tolerance for part in parts),
        top1=float(np.mean([part.top1 for part in parts])),
        median_ms=min(part.median_ms for part in parts),
    )


def matrix(folder: Path, names: Sequence[str], runtimes: Sequence[Runtime], samples: int) -> None:
    """Print largest difference, agreement of the largest logit and latency, model by runtime."""
    print(HEADING)
    for name, precision, path in models_of(folder, names):
        for row in run_everywhere(path, runtimes, samples):
            print(f"| {name}, {precision} {_cells(row)}", flush=True)


def trained(runs: Sequence[Path], runtimes: Sequence[Runtime]) -> None:
    """Print the same of the models that runs delivered, over all their test samples."""
    print(HEADING)
    for run in runs:
        experiment = load_run(run).experiment
        test = load_data(experiment.data, experiment.model, experiment.task).test
        portions = [
            {name: tensor.numpy() for name, tensor in batch.inputs.items()}
            for batch in test.batches(AT_ONCE)
        ]
        for path in sorted(run.glob("models/*/model.onnx")):
            for row in agreements(path, runtimes, portions):
                name = f"{run.name}, {path.parent.name} ({len(test)})"
                print(f"| {name} {_cells(row)}", flush=True)


def _cells(row: Agreement) -> str:
    where = f"{row.runtime.partition('@')[0]} {row.version}".strip()
    told = [f"does not run: {row.failure}", "", "", ""]
    if row.failure is None:
        mark = "" if row.agrees else " (differs)"
        told = [f"{row.difference:.2g}{mark}", f"{row.tolerance:.2g}"]
        told += [f"{row.top1:.1%}", f"{row.median_ms:.2f}"]
    return f"| {where} | {' | '.join(told)} |"


def forms(folder: Path, names: Sequence[str], other: Path, repeats: int) -> None:
    """Print bytes, load time and latency of a folder's models over those of the same names."""
    rng = np.random.default_rng(0)
    print("| model | bytes | load time | latency | 95 % interval |")
    print("|---|---|---|---|---|")
    for name, precision, path in models_of(folder, names):
        files = {"this": path, "other": other / path.name}
        sessions = {key: open_session(str(file), Target()) for key, file in files.items()}
        inputs = random_inputs(path, 1, rng)
        rounds = run_times(sessions, dict.fromkeys(sessions, inputs), repeats=repeats)
        ratio = rounds.ratio("this", "other", rng)
        sizes = {key: file.stat().st_size for key, file in files.items()}
        print(
            f"| {name}, {precision} | {sizes['this'] / sizes['other']:.3f}x "
            f"| {_load_ratio(files['this'], files['other']):.2f}x "
            f"| {ratio.value:.3f}x{' disturbed' if ratio.disturbed else ''} "
            f"| {ratio.low:.3f} to {ratio.high:.3f} |",
            flush=True,
        )


def _load_ratio(this: Path, other: Path) -> float:
    """Median time to open the one over that of the other, opened in turn."""
    seconds: dict[Path, list[float]] = {this: [], other: []}
    for _ in range(LOADS):
        for path, times in seconds.items():
            started = time.perf_counter()
            open_session(str(path), Target())
            times.append(time.perf_counter() - started)
    return float(np.median(seconds[this]) / np.median(seconds[other]))


def main() -> None:
    """Write, run everywhere, or compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    asking = commands.add_parser("trained")
    asking.add_argument("run", nargs="+", type=Path)
    asking.add_argument("--runtime", nargs="+", type=parse_runtime, required=True)
    writing, running, comparing = map(commands.add_parser, ("write", "matrix", "forms"))
    for command in (writing, running, comparing):
        command.add_argument("folder", type=Path)
        command.add_argument("--only", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    running.add_argument("--runtime", nargs="+", type=parse_runtime, required=True)
    running.add_argument("--samples", type=int, default=300)
    comparing.add_argument("other", type=Path)
    comparing.add_argument("--repeats", type=int, default=60)
    options = parser.parse_args()
    torch.manual_seed(0)
    if options.command == "write":
        write(options.folder, options.only)
    elif options.command == "matrix":
        matrix(options.folder, options.only, options.runtime, options.samples)
    elif options.command == "trained":
        trained(options.run, options.runtime)
    else:
        forms(options.folder, options.only, options.other, options.repeats)


if __name__ == "__main__":
    main()
