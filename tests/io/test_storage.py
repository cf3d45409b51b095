"""Storage: one interface over local folders and S3, and the atomic put that exactly-once rests on."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssvq.errors import InputError
from ssvq.imagery.catalog import list_images
from ssvq.imagery.pixels import read_rgb
from ssvq.imagery.raster import open_raster, read_header
from ssvq.io import storage
from tests.support.images import write_image
from tests.support.s3 import forget_clients, s3_bucket, s3_server  # noqa: F401


@pytest.fixture(params=["local", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty folder of either kind of storage."""
    if request.param == "local":
        return str(tmp_path / "folder")
    return f"{request.getfixturevalue('s3_bucket')}/{tmp_path.name}"


# What holds everywhere


def test_what_is_put_is_read(folder: str) -> None:
    target = storage.join(folder, "a", "b.bin")
    assert not storage.exists(target)
    info = storage.put(target, b"\0hello")
    assert storage.exists(target)
    assert storage.read_bytes(target) == b"\0hello"
    assert (info.path, info.size) == ("b.bin", 6)
    storage.put_text(target, "grün")
    assert storage.read_text(target) == "grün"


def test_put_stat_and_list_give_one_version(folder: str) -> None:
    target = storage.join(folder, "a.bin")
    put = storage.put(target, b"1234")
    assert storage.stat(target) == put
    assert list(storage.list_files(folder)) == [put]


def test_version_changes_with_the_bytes(folder: str) -> None:
    target = storage.join(folder, "a.bin")
    versions = {storage.put(target, b"aaaa").version}
    for data in (b"bbbb", b"bbbbb", b""):
        time.sleep(0.02)  # a file's time has the step of the kernel's clock
        versions.add(storage.put(target, data).version)
        assert storage.stat(target).version in versions
    assert len(versions) == 4


def test_stat_of_a_missing_object_or_a_folder_raises(folder: str) -> None:
    with pytest.raises(FileNotFoundError):
        storage.stat(storage.join(folder, "missing"))
    with pytest.raises(FileNotFoundError):
        storage.read_bytes(storage.join(folder, "missing"))


def test_list_files_is_deep_and_in_order_of_the_path(folder: str) -> None:
    names = ["b.bin", "a/z.bin", "a/b/c.bin", "a.bin", "ab/x.bin", "a b.bin", "a-b.bin", "ü '\".bin"]
    for name in names:
        storage.put(storage.join(folder, name), name.encode())
    listed = list(storage.list_files(folder))
    assert [info.path for info in listed] == sorted(names)
    assert [info.size for info in listed] == [len(name.encode()) for name in sorted(names)]


def test_list_files_passes_over_what_is_hidden(folder: str) -> None:
    for name in ("seen.bin", ".hidden", ".folder/a.bin", "a/.hidden", "a/.folder/b/c.bin"):
        storage.put(storage.join(folder, name), b"x")
    assert [info.path for info in storage.list_files(folder)] == ["seen.bin"]


def test_list_files_of_a_missing_folder_is_empty(folder: str) -> None:
    assert list(storage.list_files(storage.join(folder, "missing"))) == []


def test_list_files_does_not_take_a_sibling_for_a_child(folder: str) -> None:
    storage.put(storage.join(folder, "survey", "a.bin"), b"x")
    storage.put(storage.join(folder, "survey2", "b.bin"), b"x")
    assert [info.path for info in storage.list_files(storage.join(folder, "survey"))] == ["a.bin"]


def test_is_folder(folder: str) -> None:
    storage.put(storage.join(folder, "a", "b.bin"), b"x")
    assert storage.is_folder(storage.join(folder, "a"))
    assert not storage.is_folder(storage.join(folder, "a", "b.bin"))
    assert not storage.is_folder(storage.join(folder, "missing"))


def test_remove_an_object_a_folder_and_nothing(folder: str) -> None:
    for name in ("a/b.bin", "a/c/d.bin", "e.bin", "a2.bin"):
        storage.put(storage.join(folder, name), b"x")
    storage.remove(storage.join(folder, "e.bin"))
    storage.remove(storage.join(folder, "a"))
    storage.remove(storage.join(folder, "missing"))
    assert [info.path for info in storage.list_files(folder)] == ["a2.bin"]


def test_open_read_seeks(folder: str) -> None:
    data = np.random.default_rng(0).bytes(100_000)
    target = storage.join(folder, "a.bin")
    storage.put(target, data)
    with storage.open_read(target) as file:
        file.seek(70_000)
        assert file.read(10) == data[70_000:70_010]
        file.seek(5)
        assert file.read(3) == data[5:8]
        file.seek(-4, os.SEEK_END)
        assert file.read() == data[-4:]


def test_check_writable_leaves_nothing(folder: str) -> None:
    storage.put(storage.join(folder, "a.bin"), b"x")
    storage.check_writable(folder, "--output")
    fs, path = storage.filesystem(folder)
    assert [name.rsplit("/", 1)[-1] for name in fs.find(path)] == ["a.bin"]


def test_an_image_reads_the_same_from_either_storage(folder: str, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 200, 3), dtype=np.uint8)
    local = write_image(tmp_path / "local.tif", pixels, tiled=True, blockxsize=64, blockysize=64, compress="deflate")
    there = storage.join(folder, "a b", "ü #1?.tif")
    storage.put(there, local.read_bytes())
    with open_raster(there) as dataset:
        assert (dataset.width, dataset.height) == (200, 300)
        window, valid = read_rgb(dataset, 30, 50, 100, 120)
        header = read_header(dataset)
    np.testing.assert_array_equal(window, pixels[50:170, 30:130])
    assert valid is None
    with open_raster(str(local)) as dataset:
        assert read_header(dataset) == header
    assert [image.uri for image in list_images(folder, "--survey")] == [there]


# The atomic put


def test_put_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "a.bin"
    storage.put(str(target), b"old")

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        storage.put(str(target), b"new")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_put_that_is_killed_leaves_no_visible_file(tmp_path: Path) -> None:
    target = tmp_path / "folder" / "a.bin"
    child = os.fork()
    if child == 0:
        os.fsync = lambda _: os._exit(9)  # after the bytes are written and before they are in place
        storage.put(str(target), b"new" * 1000)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    left = list(target.parent.iterdir())
    assert len(left) == 1
    assert left[0].name.startswith(".a.bin.")
    assert list(storage.list_files(str(tmp_path))) == []
    storage.put(str(target), b"again")
    assert [info.path for info in storage.list_files(str(tmp_path))] == ["folder/a.bin"]


def test_readers_never_see_a_part(tmp_path: Path) -> None:
    # Local alone: S3 promises it, but the tests' server can answer with the length of one and the bytes of another.
    target = str(tmp_path / "a.bin")
    contents = {bytes([value]) * (50_000 + 10_000 * value) for value in range(4)}
    storage.put(target, next(iter(contents)))
    stop, torn = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            data = storage.read_bytes(target)
            if data not in contents:
                torn.append(len(data))

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for _ in range(8):
        for data in contents:
            storage.put(target, data)
    stop.set()
    for reader in readers:
        reader.join()
    assert torn == []


def test_writers_at_once_leave_one_whole_object(folder: str) -> None:
    target = storage.join(folder, "a.bin")
    contents = [bytes([value]) * 30_000 for value in range(6)]
    writers = [threading.Thread(target=storage.put, args=(target, data)) for data in contents]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert storage.read_bytes(target) in contents
    assert len(list(storage.list_files(folder))) == 1


def test_unfinished_bytes_lie_in_the_staging_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, staging = tmp_path / "tiles" / "a.bin", tmp_path / "staging" / "run"
    beside: list[list[Path]] = []
    monkeypatch.setattr(os, "fsync", lambda _: beside.append([*target.parent.iterdir(), *staging.iterdir()]))
    storage.put(str(target), b"x", staging=str(staging))
    assert [path.parent for path in beside[0]] == [staging]
    assert target.read_bytes() == b"x"
    assert list(staging.iterdir()) == []


# Local folders


def test_links_do_not_loop(tmp_path: Path) -> None:
    storage.put(str(tmp_path / "a" / "b.bin"), b"x")
    (tmp_path / "a" / "up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "itself").symlink_to("itself")
    (tmp_path / "nowhere").symlink_to("missing")
    (tmp_path / "link.bin").symlink_to("a/b.bin")
    assert [info.path for info in storage.list_files(str(tmp_path))] == ["a/b.bin", "link.bin"]


def test_list_files_of_a_file_is_empty(tmp_path: Path) -> None:
    storage.put(str(tmp_path / "a.bin"), b"x")
    assert list(storage.list_files(str(tmp_path / "a.bin"))) == []


def test_an_object_below_a_file_is_missing(tmp_path: Path) -> None:
    storage.put(str(tmp_path / "a.bin"), b"x")
    assert not storage.exists(str(tmp_path / "a.bin" / "b"))
    with pytest.raises(FileNotFoundError):
        storage.read_bytes(str(tmp_path / "a.bin" / "b"))


# What goes wrong is said


def test_check_writable_names_the_setting(tmp_path: Path) -> None:
    # Tests may run as root, whom no permission stops: a folder below a file cannot be made by anyone.
    storage.put(str(tmp_path / "a.bin"), b"x")
    with pytest.raises(InputError, match=r"--output .*a\.bin/scores cannot be written: Not a directory"):
        storage.check_writable(str(tmp_path / "a.bin" / "scores"), "--output")


def test_a_missing_bucket_is_named(s3_bucket: str) -> None:  # noqa: F811
    with pytest.raises(InputError, match=r"--output s3://no-such-bucket/x cannot be written: .*bucket"):
        storage.check_writable("s3://no-such-bucket/x", "--output")
    with pytest.raises(InputError, match=r"--survey s3://no-such-bucket/x "):
        list_images("s3://no-such-bucket/x", "--survey")


@pytest.fixture
def no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "missing"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "missing"))
    forget_clients()
    yield
    forget_clients()


@pytest.mark.usefixtures("no_credentials")
def test_missing_credentials_are_a_storage_error() -> None:
    with pytest.raises(InputError, match=r"--output s3://bucket/x cannot be written: Unable to locate credentials"):
        storage.check_writable("s3://bucket/x", "--output")
    with pytest.raises(InputError, match=r"--survey s3://bucket/x cannot be listed: Unable to locate credentials"):
        list_images("s3://bucket/x", "--survey")
    with pytest.raises(storage.StorageError, match="Unable to locate credentials"):
        storage.stat("s3://bucket/x")


def test_an_unknown_address_is_refused() -> None:
    with pytest.raises(InputError, match="nonsense:// is not a supported address"):
        storage.exists("nonsense://bucket/x")


# Names


def test_absolute_has_one_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for form in ("a/b", "./a/b/", "a//b", "a/../a/b", tmp_path / "a" / "b"):
        assert storage.absolute(form) == f"{tmp_path}/a/b"
    monkeypatch.setenv("HOME", "/home/x")
    assert storage.absolute("~/a") == "/home/x/a"
    assert storage.absolute("s3://bucket/a/") == "s3://bucket/a"
    assert storage.absolute("s3://bucket") == "s3://bucket"


@given(st.lists(st.sampled_from(["a", "b c", "..", ".", "", "é"]), max_size=6))
def test_absolute_of_absolute_is_itself(parts: list[str]) -> None:
    once = storage.absolute("/".join(parts) or ".")
    assert storage.absolute(once) == once


def test_join_and_base_name() -> None:
    assert storage.join("s3://bucket/", "a", "b.c") == "s3://bucket/a/b.c"
    assert storage.join("/x", "a") == "/x/a"
    assert storage.base_name("s3://bucket/a/b.c") == "b.c"
    assert storage.base_name("/x/survey/") == "survey"
    assert storage.is_remote("s3://bucket/a")
    assert not storage.is_remote("/x/a")
    assert storage.local_path("s3://bucket/a") is None
    assert storage.local_path("/x/a") == "/x/a"
    assert storage.longest_wait("/x/a") == 0
    assert storage.longest_wait("s3://bucket/a") == storage.timeout()
    assert [storage.is_full(place) for place in ("s3://bucket/a", "/x/a", "~/a", "a", "./a")] == [True] * 3 + [
        False
    ] * 2


def test_paths_that_are_written_down_in_a_folder() -> None:
    assert storage.beside("/x", "a/b") == "/x/a/b"
    assert storage.beside("/x", "../a") == "/a"
    assert storage.beside("/x", "/y/a/") == "/y/a"
    assert storage.beside("/x", "s3://bucket/a") == "s3://bucket/a"
    assert storage.beside("s3://bucket/x", "a/b") == "s3://bucket/x/a/b"
