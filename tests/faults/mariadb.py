"""A MariaDB server from the system's packages, for the length of a test."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.faults.postgres import PASSWORD, free_port

SETUP = f"create database simqnas; create user tester@127.0.0.1 identified by '{PASSWORD}'; "
SETUP += "grant all on simqnas.* to tester@127.0.0.1;"


@contextmanager
def server() -> Iterator[str]:
    """Start a server; yields the URL of an empty database. Skips where that cannot be done."""
    programs = [shutil.which(name) for name in ("mariadb-install-db", "mariadbd", "mariadb")]
    if None in programs or find_spec("pymysql") is None:
        pytest.skip("needs MariaDB and its driver (apt-get install mariadb-server, pip pymysql)")
    install, daemon, client = map(str, programs)
    folder = Path(tempfile.mkdtemp(prefix="simqnas-mariadb-"))
    owner = "mysql" if os.geteuid() == 0 else None  # it refuses to run as root
    if owner is not None:
        shutil.chown(folder, owner)
    where = ["--no-defaults", f"--datadir={folder / 'data'}"]
    options = {"user": owner, "cwd": folder, "stdout": subprocess.DEVNULL}
    login = "--auth-root-authentication-method=normal"
    subprocess.run([install, *where, login], check=True, **options)  # type: ignore[call-overload] # options
    port = free_port()
    listen = [
        f"--socket={folder / 's'}",
        f"--port={port}",
        "--bind-address=127.0.0.1",
        "--skip-name-resolve",
    ]
    process = subprocess.Popen([daemon, *where, *listen], stderr=subprocess.DEVNULL, **options)  # type: ignore[call-overload] # the same
    try:
        ask = [client, "--no-defaults", f"--socket={folder / 's'}", "-uroot", "-e", SETUP]
        while subprocess.run(ask, capture_output=True).returncode:
            assert process.poll() is None, "the server ended"
            time.sleep(0.2)
        yield f"mysql://tester:{PASSWORD}@127.0.0.1:{port}/simqnas"
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)
