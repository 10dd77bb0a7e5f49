"""A PostgreSQL server from the system's packages, for the length of a test session."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PASSWORD = "kept-out-of-sight"  # noqa: S105 # of a server that lives as long as the tests


def _programs() -> Path | None:
    """The folder of initdb and pg_ctl; Debian keeps it out of the path."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    found = shutil.which("pg_ctl")
    candidates = [*folders, *([Path(found).resolve().parent] if found else [])]
    return next((f for f in candidates if (f / "initdb").exists()), None)


def _owner() -> str | None:
    """Who runs the server: it refuses to run as root."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        return "nobody"


@contextmanager
def server() -> Iterator[str]:
    """Start a server; yields the URL of an empty database. Skips where that cannot be done."""
    programs, owner = _programs(), _owner()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="simqnas-postgres-"))
    secret, port = folder / "password", free_port()
    secret.write_text(PASSWORD)
    if owner is not None:
        for path in (folder, secret):
            shutil.chown(path, owner)

    def do(program: str, *arguments: str) -> None:
        command = [str(programs / program), "-D", str(folder / "data"), *arguments]
        result = subprocess.run(
            command, user=owner, cwd=folder, capture_output=True, text=True, timeout=60
        )
        if result.returncode:
            shutil.rmtree(folder)
            pytest.skip(f"PostgreSQL cannot be started here: {program}: {result.stderr.strip()}")

    do("initdb", "-U", "tester", "--auth=scram-sha-256", f"--pwfile={secret}", "--no-sync")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -k {folder} -c fsync=off"
    do("pg_ctl", "-w", "-o", options, "-l", str(folder / "log"), "start")
    try:
        yield f"postgresql://tester:{PASSWORD}@127.0.0.1:{port}/postgres"
    finally:
        do("pg_ctl", "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
