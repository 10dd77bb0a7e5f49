"""Files that travel between machines, in Optuna's artifact store."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from optuna.artifacts import Boto3ArtifactStore, FileSystemArtifactStore
from optuna.artifacts.exceptions import ArtifactNotFound

from hardware.files import replacing
from nas.ledger.storage import StorageError
from nas.run.run_folder import sha256

S3 = "s3://"


class Folder(FileSystemArtifactStore):
    """Optuna's store in a folder, whose files appear whole."""

    def __init__(self, path: Path):
        path.mkdir(parents=True, exist_ok=True)
        super().__init__(path)
        self._path = path

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Store a file; others who send the same at this moment do no harm."""
        with replacing(self._path / artifact_id) as part:
            super().write(part.name, content_body)


@dataclass(frozen=True)
class ArtifactStore:
    """Files of one run, named by their content's SHA-256: sent once, and checked on arrival.

    location: a folder that all machines see, or `s3://bucket`.
    run: begins every name, so that runs share a store and each removes its own.
    """

    location: str
    store: Folder | Boto3ArtifactStore
    run: str
    _sent: set[str] = field(default_factory=set)

    @classmethod
    def open(cls, location: str, run: str) -> ArtifactStore:
        """Open a store. Raises StorageError without boto3 or for a bucket's folder."""
        if not location.startswith(S3):
            return cls(location, Folder(Path(location)), run)
        bucket = location.removeprefix(S3).rstrip("/")
        if not bucket or "/" in bucket:
            raise StorageError(f"artifacts: {location} must name a bucket, as in s3://bucket")
        try:
            with _errors(location):
                return cls(location, Boto3ArtifactStore(bucket), run)
        except ImportError:
            raise StorageError(
                f"artifacts: {location} needs the Python package boto3, which is not installed; "
                "pip install 'simqnas[s3]'"
            ) from None

    def probe(self) -> None:
        """Send, fetch and discard a few bytes. Raises StorageError or OSError if that fails."""
        name = self.put(b"simqnas")
        self.get(name)
        self.delete([name])

    def put(self, content: bytes) -> str:
        """Store a file; returns its name."""
        name = f"{self.run}.{sha256(content)}"
        if name not in self._sent:
            with _errors(self.location):
                self.store.write(name, io.BytesIO(content))
            self._sent.add(name)
        return name

    def delete(self, names: Iterable[str]) -> None:
        """Remove files that nobody needs any more."""
        for name in names:
            self._sent.discard(name)
            with _errors(self.location), suppress(ArtifactNotFound):  # somebody else was quicker
                self.store.remove(name)

    def get(self, name: str) -> bytes:
        """Read a file back. Raises StorageError if it is not there, or not what was sent."""
        with _errors(self.location), self.store.open_reader(name) as reader:
            content = reader.read()
        if sha256(content) != name.rpartition(".")[2]:
            raise StorageError(f"artifact {name}: has changed on its way; send it again")
        return content


@contextmanager
def _errors(location: str) -> Iterator[None]:
    """Turn what a store raises into a StorageError that names the place."""
    try:
        yield
    except (OSError, ImportError):  # say all themselves
        raise
    except Exception as error:  # every client of a cloud has errors of its own
        reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
        raise StorageError(
            f"artifacts: {location}: {reason[0]}; check the place and the access to it"
        ) from None
