"""Requests to S3 wait for a server that is gone or overloaded, and for nothing else."""

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from tenacity import wait_fixed

from ssvq.errors import ImageError, InputError
from ssvq.imagery.raster import open_raster
from ssvq.io import s3, storage
from tests.support.images import write_image
from tests.support.proxy import Fault, Proxy, proxy_before
from tests.support.s3 import KEY, SECRET, Server, forget_clients, s3_bucket, s3_server  # noqa: F401

DATA = np.random.default_rng(0).bytes(300_000)

WINDOW = ((300, 700), (300, 700))

ACTIONS: dict[str, Callable[[str], object]] = {
    "get": lambda folder: storage.read_bytes(f"{folder}/a.bin") == DATA,
    "put": lambda folder: storage.put(f"{folder}/b.bin", DATA).size == len(DATA),
    "list": lambda folder: "a.bin" in [info.path for info in storage.list_files(folder)],
    "stat": lambda folder: storage.stat(f"{folder}/a.bin").size == len(DATA),
    "exists": lambda folder: storage.exists(f"{folder}/a.bin") and not storage.exists(f"{folder}/missing"),
    "is_folder": lambda folder: storage.is_folder(folder),
    "open": lambda folder: storage.open_read(f"{folder}/a.bin").read() == DATA,
    "open without read-ahead": lambda folder: storage.open_read(f"{folder}/a.bin", ahead=False).read() == DATA,
    "remove": lambda folder: storage.remove(f"{folder}/c") is None,
}
FAULTS: list[Fault] = ["refuse", "overload", "fail", "forget", "cut"]
WITHOUT_BODY = ("put", "stat", "exists")  # of their answers nothing can be cut


@pytest.fixture
def folder(s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:  # noqa: F811
    """A folder on S3 with `a.bin` and `c/d.bin`; requests wait for up to a minute."""
    monkeypatch.setenv(storage.TIMEOUT_VARIABLE, "60")
    folder = f"{s3_bucket}/{tmp_path.name}"
    storage.put(f"{folder}/a.bin", DATA)
    storage.put(f"{folder}/c/d.bin", b"x")
    return folder


@pytest.fixture
def proxy(s3_server: Server, folder: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:  # noqa: F811
    """A proxy through which all requests go from now on."""
    monkeypatch.setattr(s3, "BACKOFF", wait_fixed(0.01))
    with proxy_before(s3_server.port) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        forget_clients()
        yield proxy
        forget_clients()


@pytest.fixture
def image(folder: str, tmp_path: Path) -> str:
    """A tiled image on S3, too large for its header's read to hold."""
    pixels = np.random.default_rng(1).integers(0, 256, (1024, 1024, 3), dtype=np.uint8)
    local = write_image(tmp_path / "a.tif", pixels, tiled=True, blockxsize=256, blockysize=256)
    storage.put(f"{folder}/image.tif", local.read_bytes())
    return f"{folder}/image.tif"


# The server goes and comes back


@pytest.mark.parametrize("action", [name for name in ACTIONS if name in ("get", "put", "list", "open")])
def test_a_request_waits_for_the_server(
    action: str,
    folder: str,
    s3_server: Server,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    with s3_server.outage(1.5):
        started = time.monotonic()
        assert ACTIONS[action](folder)
        assert time.monotonic() - started > 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, "one line, however often it is tried"
    assert lines[0].startswith(f"waiting for {folder}")
    assert lines[0].endswith("retrying for up to 60 s")


def test_a_window_of_an_image_waits_for_the_server(image: str, s3_server: Server) -> None:  # noqa: F811
    with open_raster(image) as dataset:
        undisturbed = dataset.read(window=WINDOW)
    with open_raster(image) as dataset, s3_server.outage(1.5):
        np.testing.assert_array_equal(dataset.read(window=WINDOW), undisturbed)


def test_a_server_that_stays_away_is_an_error(
    image: str,
    folder: str,
    s3_server: Server,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    storage.set_timeout(2)
    reads: list[Callable[[], object]] = [
        lambda: storage.read_bytes(f"{folder}/a.bin"),
        lambda: storage.put(f"{folder}/b.bin", b"x"),
        lambda: list(storage.list_files(folder)),
    ]
    started = time.monotonic()
    try:
        with pytest.raises(ImageError, match="is not answered after 2 s"), open_raster(image) as dataset:  # noqa: PT012
            s3_server.stop()
            with pytest.raises(storage.StorageError, match="is not answered after 2 s"):
                dataset.read(window=WINDOW)  # at once, before any of its pixels are seen
        for read in reads:
            with pytest.raises(storage.StorageError, match=rf"{folder}\S* is not answered after 2 s of trying: "):
                read()
        assert 8 <= time.monotonic() - started < 30
    finally:
        s3_server.start()


# The server answers, but not as it should


@pytest.mark.parametrize("action", ACTIONS)
def test_every_request_is_repeated(action: str, folder: str, proxy: Proxy) -> None:
    for fault in FAULTS:
        if action in WITHOUT_BODY and fault == "cut":
            continue
        storage.put(f"{folder}/c/d.bin", b"x")  # for the action that removes it
        proxy.faults.extend([fault] * 2)
        assert ACTIONS[action](folder), fault
        assert not proxy.faults, fault


def test_ranges_of_an_image_are_repeated(image: str, proxy: Proxy) -> None:
    with open_raster(image) as dataset:
        undisturbed = dataset.read(window=WINDOW)
    for fault in FAULTS:
        with open_raster(image) as dataset:
            proxy.faults.extend([fault] * 3)
            np.testing.assert_array_equal(dataset.read(window=WINDOW), undisturbed, err_msg=fault)
        assert not proxy.faults, fault


def test_a_put_whose_answer_is_lost_is_safe_to_repeat(folder: str, proxy: Proxy) -> None:
    target = f"{folder}/new/a.bin"
    proxy.faults.append("forget")
    put = storage.put(target, DATA)
    assert [request.split()[0] for request in proxy.seen] == ["PUT", "PUT"]
    assert storage.stat(target) == put
    assert list(storage.list_files(f"{folder}/new")) == [put]
    assert storage.read_bytes(target) == DATA


def test_a_large_put_is_one_request(folder: str, proxy: Proxy) -> None:
    storage.put(f"{folder}/large.bin", bytes(110 * 2**20))  # s3fs would send it in parts
    assert [request.split("?")[0] for request in proxy.seen] == [f"PUT /{folder.removeprefix('s3://')}/large.bin"]


def test_an_image_that_changes_while_it_is_read_is_an_error(image: str) -> None:
    with pytest.raises(ImageError, match="pre-conditions"), open_raster(image) as dataset:  # noqa: PT012
        storage.put(image, b"x" * 4_000_000)
        dataset.read(window=WINDOW)


# What does not pass is not waited for


@pytest.mark.parametrize(
    ("location", "error"), [("s3://no-such-bucket/a", FileNotFoundError), ("{folder}/missing", FileNotFoundError)]
)
def test_what_is_not_there_is_not_waited_for(location: str, error: type[OSError], folder: str, proxy: Proxy) -> None:
    for read in (storage.read_bytes, storage.stat, storage.open_read):
        proxy.seen.clear()
        with pytest.raises(error):
            read(location.format(folder=folder))
        assert len(set(proxy.seen)) == len(proxy.seen), "no request is sent twice"


@pytest.mark.parametrize("variable", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_wrong_credentials_are_not_waited_for_and_not_shown(
    variable: str,
    folder: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setenv(variable, "PLANTED-wrong-key")
    forget_clients()
    started = time.monotonic()
    for read in (storage.read_bytes, storage.stat, storage.open_read):
        with pytest.raises(PermissionError) as error:
            read(f"{folder}/a.bin")
        assert "PLANTED" not in str(error.value)
    assert time.monotonic() - started < 5
    forget_clients()
    assert "PLANTED" not in capsys.readouterr().err + caplog.text


def test_credentials_are_not_shown_while_waiting(
    folder: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://planted-user:planted-password@127.0.0.1:9")
    monkeypatch.setenv(storage.TIMEOUT_VARIABLE, "2")
    forget_clients()
    with pytest.raises(storage.StorageError, match="is not answered") as error:
        storage.read_bytes(f"{folder}/a.bin")
    forget_clients()
    shown = f"{error.value!r}{capsys.readouterr().err}{caplog.text}"
    assert "waiting for" in shown
    assert not any(secret in shown for secret in ("planted", KEY + ":", SECRET))


# The limit


def test_the_limit_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(storage.TIMEOUT_VARIABLE, raising=False)
    assert storage.timeout() == storage.DEFAULT_TIMEOUT == 600
    monkeypatch.setenv(storage.TIMEOUT_VARIABLE, "2.5")
    assert storage.timeout() == 2.5
    storage.set_timeout(3)
    assert storage.timeout() == 3
    for wrong in ("", "x", "0", "-1", "nan", "inf"):
        monkeypatch.setenv(storage.TIMEOUT_VARIABLE, wrong)
        with pytest.raises(InputError, match=f"{storage.TIMEOUT_VARIABLE}={wrong}: must be a number of seconds over 0"):
            storage.timeout()
