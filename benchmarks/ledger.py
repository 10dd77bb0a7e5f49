"""What the ledger and its queue cost per evaluation, with several workers.

Run: python benchmarks/ledger.py --workers 8 --evaluations 2000 [--storage postgresql://...]
Without a storage the journal of a temporary folder is used. Evaluations do nothing, so everything
that is timed is overhead: claim, details of an ordinary size, result, and the driver's polling.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from pathlib import Path

import numpy as np

from hardware.latency import Latency
from nas.evaluation.candidate import Candidate
from nas.evaluation.record import Details, Measured
from nas.experiment.metrics import find_metric
from nas.ledger.ledger import Ledger
from nas.ledger.storage import open_storage
from nas.run.interrupts import StopRequest
from nas.workers.executors import WorkerPool, serve
from supernets.space.space import Gene, SearchSpace

GENES = 110
SPACE = SearchSpace(
    tuple(Gene.precision(f"blocks.{i}", ("int4", "int8", "fp32")) for i in range(GENES))
)
OBJECTIVES = tuple(find_metric(name) for name in ("accuracy", "latency_ms", "size_bytes"))
METRICS = {"accuracy": 0.5, "latency_ms": 1.0, "size_bytes": 1e6, "macs": 1e9, "parameters": 1e6}
DETAILS = Details(Latency(1.0, 1.0, 1.0, 30), "x" * 100, {"cpu": "x" * 60})


def open_ledger(storage: str | None, folder: Path) -> Ledger:
    """The ledger that driver and workers share."""
    opened = open_storage(storage, folder / "journal")
    return Ledger.open(opened, folder.name, SPACE, OBJECTIVES)


def evaluate(candidate: Candidate) -> Measured:
    """Nothing, at once."""
    return Measured(METRICS, DETAILS)


def work(storage: str | None, folder: Path) -> None:
    """One worker."""
    serve(open_ledger(storage, folder), evaluate, StopRequest())


def main() -> None:
    """Time rounds of trivial evaluations."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--evaluations", type=int, default=2000)
    parser.add_argument("--round-size", type=int, default=100)
    parser.add_argument("--storage")
    parser.add_argument("--wait", type=float, default=10.0, help="seconds for workers to start")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="simqnas-ledger-") as name:
        folder = Path(name)
        ledger = open_ledger(options.storage, folder)
        ledger.note(open=True)
        context = multiprocessing.get_context("spawn")
        workers = [
            context.Process(target=work, args=(options.storage, folder))
            for _ in range(options.workers)
        ]
        for worker in workers:
            worker.start()
        time.sleep(options.wait)  # their imports are not what is measured
        rng, enqueueing = np.random.default_rng(0), 0.0
        started = time.perf_counter()
        for number in range(options.evaluations // options.round_size):
            genomes = SPACE.sample(options.round_size, rng)
            candidates = [Candidate.from_genome(SPACE, genome) for genome in genomes]
            before = time.perf_counter()
            ledger.enqueue(candidates, "search", number)
            enqueueing += time.perf_counter() - before
            WorkerPool(folder, 0).work_off(ledger, lambda: None)
        seconds = time.perf_counter() - started
        known = ledger.evaluations()
        ledger.note(open=False)
        for worker in workers:
            worker.join()
    keys = {evaluation.candidate.key for evaluation in known}
    assert len(keys) == len(known) == options.evaluations, "lost or done twice"
    each = 1e3 / options.evaluations
    print(
        f"{options.evaluations} evaluations, {options.workers} workers: {seconds:.1f} s, "
        f"{seconds * each:.1f} ms per evaluation ({enqueueing * each:.1f} ms of it enqueueing)"
    )


if __name__ == "__main__":
    main()
