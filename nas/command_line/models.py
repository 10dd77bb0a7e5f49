"""Commands about an ONNX model and the machine that serves it: bench, doctor, verify.

Frameworks are imported inside the commands, so that --help is quick.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from nas.command_line.options import AsJson, Provider, Repeats, Threads
from nas.command_line.output import print_json, print_shown


def bench(
    model: Annotated[Path, typer.Argument(help="ONNX model.", metavar="MODEL.onnx")],
    against: Annotated[
        Path | None, typer.Option(help="Another model, measured alternately with the first.")
    ] = None,
    provider: Provider = "cpu",
    threads: Threads = 1,
    batch: Annotated[int, typer.Option(help="Samples per inference.")] = 1,
    sequence: Annotated[int, typer.Option(help="Tokens per text.")] = 128,
    image_size: Annotated[
        int | None, typer.Option(help="Pixels, for models that take any image size.")
    ] = None,
    sizes: Annotated[
        list[str] | None,
        typer.Option(
            "--size",
            help="Size of any open axis: past_length=64, or x[0]=4 for the first axis of input x "
            "where it has no name. Repeatable.",
            metavar="AXIS=N",
            show_default=False,
        ),
    ] = None,
    repeats: Repeats = 90,
    as_json: AsJson = False,
) -> None:
    """Measure a model's latency, or two side by side, on random inputs."""
    import numpy as np

    from hardware.bench import bench as run_bench
    from hardware.bench import render
    from hardware.bench_inputs import parse_sizes
    from hardware.target import parse_target

    target = parse_target(
        provider=provider,
        threads=threads,
        batch_size=batch,
        sequence_length=sequence,
        image_size=image_size,
    )
    rng = np.random.default_rng(0)
    result = run_bench(
        model, target, against=against, repeats=repeats, sizes=parse_sizes(sizes or []), rng=rng
    )
    if as_json:
        print_json(asdict(result))
    else:
        print_shown(render(result))


def doctor(
    provider: Provider = "cpu",
    threads: Threads = 1,
    repeats: Repeats = 30,
    as_json: AsJson = False,
) -> None:
    """Show processor flags, providers, and how fast each format is on this machine."""
    import numpy as np

    from hardware.doctor import examine_machine, measure_formats, render
    from hardware.target import parse_target

    target = parse_target(provider=provider, threads=threads)
    table = measure_formats(target, repeats=repeats, rng=np.random.default_rng(0))
    machine = examine_machine()
    if as_json:
        speeds = {p: {f: asdict(latency) for f, latency in row.items()} for p, row in table.items()}
        print_json({**asdict(machine), "latency": speeds})
    else:
        print_shown(render(machine, table))


def verify(
    folder: Annotated[
        Path, typer.Argument(help="Model folder, models/<key>/ of a run.", metavar="MODEL_FOLDER")
    ],
    runtime: Annotated[
        list[str] | None,
        typer.Option(
            help="onnxruntime, openvino, onnxruntime-node or onnxruntime-web; NAME@PLACE for one "
            "installed elsewhere (folder of `pip install --target` or an interpreter; folder of "
            "`npm install`). Repeatable; default: all that are found.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a model's stored samples in other runtimes and compare; a difference is an error."""
    from hardware.portability.agreement import problems, render, verify_folder
    from hardware.portability.runtimes import installed_runtimes, parse_runtime

    runtimes = [parse_runtime(name) for name in runtime] if runtime else installed_runtimes()
    found = verify_folder(folder, runtimes)
    if as_json:
        print_json([row.to_json() for row in found])
    else:
        print_shown(render(found))
    if wrong := problems(found):
        raise ValueError("\n".join(wrong))
