"""Files that travel between machines, in Optuna's artifact store."""

from __future__ import annotations

import hashlib
import io
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from optuna.artifacts import Boto3ArtifactStore, FileSystemArtifactStore
from optuna.artifacts.exceptions import ArtifactNotFound

from nas.storage import StorageError

Store = Boto3ArtifactStore | FileSystemArtifactStore


def sha256(content: bytes) -> str:
    """Hexadecimal digest of a file."""
    return hashlib.sha256(content).hexdigest()


def open_store(location: str) -> Store:
    """Optuna's artifact store in a folder that all machines see, or in `s3://bucket`."""
    if not location.startswith("s3://"):
        Path(location).mkdir(parents=True, exist_ok=True)
        return FileSystemArtifactStore(location)
    try:
        return Boto3ArtifactStore(location.removeprefix("s3://").strip("/"))
    except ImportError as error:
        raise StorageError(
            f"artifacts: {location} needs boto3 ({error}); pip install 'simqnas[s3]'"
        ) from None


@dataclass(frozen=True)
class Parcels:
    """Files under their content's SHA-256: sent once, and checked when they arrive."""

    store: Store
    _sent: set[str] = field(default_factory=set)

    def send(self, content: bytes) -> str:
        """Store a file; returns its name."""
        name = sha256(content)
        if name not in self._sent:
            self.store.write(name, io.BytesIO(content))
            self._sent.add(name)
        return name

    def discard(self, name: str) -> None:
        """Remove a file that nobody needs any more."""
        self._sent.discard(name)
        with suppress(ArtifactNotFound):  # somebody else was quicker
            self.store.remove(name)

    def fetch(self, name: str) -> bytes:
        """Read a file back. Raises StorageError if it is not what was sent."""
        with self.store.open_reader(name) as reader:
            content = reader.read()
        if sha256(content) != name:
            raise StorageError(f"artifact {name}: has changed on its way; send it again")
        return content
