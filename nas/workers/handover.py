"""What a driver hands to workers on other machines: files, and the queue of latency jobs."""

from __future__ import annotations

from collections.abc import Mapping

from filelock import FileLock

from hardware.files import write_atomically
from nas.experiment.schema import Experiment
from nas.ledger.artifact_store import ArtifactStore
from nas.ledger.storage import open_storage
from nas.run.run_folder import SUPERNET_FILES, RunFolder, sha256
from nas.workers.remote_latency import LatencyQueue


def open_latency_queue(experiment: Experiment, folder: RunFolder) -> LatencyQueue:
    """Open the queue of latency jobs of a run."""
    storage = open_storage(experiment.storage, folder.journal)
    return LatencyQueue.open(storage, experiment.name, open_artifacts(experiment, folder))


def open_artifacts(experiment: Experiment, folder: RunFolder) -> ArtifactStore:
    """Where files travel between the machines of a run."""
    place = experiment.artifacts or str(folder.artifacts.resolve())
    return ArtifactStore.open(place, experiment.name)


def send_supernet(experiment: Experiment, folder: RunFolder) -> dict[str, str]:
    """Send the tuned super-network on its way to workers; file name -> artifact."""
    artifacts = open_artifacts(experiment, folder)
    return {name: artifacts.put((folder.supernet / name).read_bytes()) for name in SUPERNET_FILES}


def fetch_supernet(sent: Mapping[str, str], experiment: Experiment, folder: RunFolder) -> None:
    """Bring the tuned super-network here, unless it is; sent: file name -> artifact."""
    artifacts = open_artifacts(experiment, folder)
    folder.supernet.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.supernet / "fetch.lock"):  # workers of one machine share the files
        for name in SUPERNET_FILES:
            path = folder.supernet / name
            if not path.exists() or not sent[name].endswith(sha256(path.read_bytes())):
                write_atomically(path, artifacts.get(sent[name]))
