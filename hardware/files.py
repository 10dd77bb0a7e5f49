"""Writing files and folders so that readers, and a crash, leave the old or the new one, no part."""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A free name beside `path`: the file or folder written there takes the place of `path`, its
    content on the disk first. Nothing is left of it when writing fails.

    The name tells the process apart, so that several may write the same file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.uname().nodename}-{os.getpid()}.part")
    _remove(part)
    try:
        yield part
        for file in part.rglob("*") if part.is_dir() else [part]:
            if file.is_file():
                with file.open("rb") as written:
                    os.fsync(written.fileno())
        if part.is_dir():  # a folder cannot be renamed over one that holds something
            _remove(path)
        part.replace(path)
    except BaseException:
        _remove(part)
        raise


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file (text as UTF-8) so that it appears whole or not at all."""
    with replacing(path) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


def writable_folder(place: Path) -> Path:
    """The folder, made if need be; one for this process and its children if it is read-only.

    What would be kept there is then lost at the end, which is said once.
    """
    try:
        place.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=place).close()
    except OSError as error:
        return _temporary(place, str(error.strerror))
    return place


@cache
def _temporary(place: Path, reason: str) -> Path:
    folder = tempfile.mkdtemp(prefix="simqnas-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    logging.getLogger(__name__).warning(
        "%s: cannot be written (%s); what is kept there is kept for this run alone", place, reason
    )
    return Path(folder)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def cache_folder() -> Path:
    """`$SIMQNAS_CACHE`, or `simqnas` in the user's cache folder; see `writable_folder`."""
    home = os.path.expanduser("~/.cache")
    if home.startswith("~"):  # a user without a home
        home = os.devnull
    base = Path(os.environ.get("XDG_CACHE_HOME") or home)
    place = Path(os.environ.get("SIMQNAS_CACHE") or base / "simqnas")
    folder = writable_folder(place)
    if folder != place:
        os.environ["SIMQNAS_CACHE"] = str(folder)  # for workers started by this process
    return folder
