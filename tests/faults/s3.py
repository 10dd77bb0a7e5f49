"""A bucket of an S3 server on this machine, for the length of a test."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import pytest


@contextmanager
def bucket(environment: pytest.MonkeyPatch) -> Iterator[str]:
    """Start a server; yields the bucket's name and says in the environment how to get there."""
    program = shutil.which("moto_server")
    if program is None or find_spec("boto3") is None:
        pytest.skip("needs an S3 server and client (pip install 'moto[server]' boto3)")
    import boto3
    from botocore.exceptions import EndpointConnectionError

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "tester",
        "AWS_SECRET_ACCESS_KEY": "tester",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        environment.setenv(name, value)
    process = subprocess.Popen([program, "-p", str(port)], stderr=subprocess.DEVNULL)
    try:
        while True:
            try:
                boto3.client("s3").create_bucket(Bucket="simqnas-tests")
                break
            except EndpointConnectionError:
                assert process.poll() is None, "the server ended"
                time.sleep(0.2)
        yield "simqnas-tests"
    finally:
        process.kill()
        process.wait()


def keys(name: str) -> list[str]:
    """What a bucket holds."""
    import boto3

    found = boto3.client("s3").list_objects_v2(Bucket=name).get("Contents", [])
    return [entry["Key"] for entry in found]
