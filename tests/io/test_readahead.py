"""What an open file on S3 fetches: about what is read, in few requests."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio.shutil
from hypothesis import given
from hypothesis import strategies as st

from ssvq.imagery.raster import open_raster, read_header
from ssvq.io import s3, storage
from ssvq.io.readahead import FIRST_AHEAD, KEPT, LARGEST_AHEAD, ReadAhead
from tests.support.images import write_image
from tests.support.s3 import s3_bucket, s3_server  # noqa: F401


class Source:
    """A file of given bytes, and the ranges that were fetched of it."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.fetched: list[tuple[int, int]] = []
        self.cache = ReadAhead(0, self.fetch, len(data))

    def fetch(self, start: int, stop: int) -> bytes:
        assert 0 <= start < stop <= len(self.data)
        self.fetched.append((start, stop))
        return self.data[start:stop]

    @property
    def bytes_fetched(self) -> int:
        return sum(stop - start for start, stop in self.fetched)


def source(size: int) -> Source:
    """A file of random bytes."""
    return Source(np.random.default_rng(size).bytes(size))


@given(
    st.integers(0, 500_000),
    st.lists(st.tuples(st.integers(0, 600_000), st.integers(0, 200_000)), max_size=20),
    st.booleans(),
    st.booleans(),
)
def test_what_is_read_is_what_is_there(size: int, reads: list[tuple[int, int]], sequential: bool, begun: bool) -> None:
    file = source(size)
    file.cache.sequential = sequential
    if begun:
        file.cache.begin(file.data[:FIRST_AHEAD])
    for start, length in reads:
        assert file.cache._fetch(start, start + length) == file.data[start : start + length]
    assert file.cache._fetch(None, None) == file.data
    if size <= KEPT:
        assert file.bytes_fetched <= size, "nothing is fetched twice while all of it is kept"


def test_reads_here_and_there_fetch_little_more_than_they_ask_for() -> None:
    file = source(20 * 2**20)
    places = range(0, 19 * 2**20, 2**20 + 1)
    for place in places:
        file.cache._fetch(place, place + 300_000)
    assert file.bytes_fetched == 300_000 * len(places)


def test_a_file_read_in_small_pieces_takes_few_requests() -> None:
    file = source(20 * 2**20)
    file.cache.sequential = True
    for place in range(0, 20 * 2**20, 4096):
        file.cache._fetch(place, place + 4096)
    assert len(file.fetched) <= 4
    assert max(stop - start for start, stop in file.fetched) == LARGEST_AHEAD


def test_a_look_at_the_end_of_a_file_fetches_its_end() -> None:
    file = source(3_000_000)
    file.cache.sequential = True
    file.cache.begin(file.data[:FIRST_AHEAD])
    file.cache._fetch(2_999_996, 3_000_000)
    file.cache._fetch(0, 3_000_000)
    assert file.fetched == [(2_999_996, 3_000_000), (FIRST_AHEAD, 2_999_996)]


def test_memory_is_bounded() -> None:
    file = source(3 * KEPT)
    for place in range(0, 3 * KEPT, 2**20):
        file.cache._fetch(place, place + 2**20)
    assert sum(len(extent.data) for extent in file.cache._extents.values()) <= KEPT


# On the real server


class Requests:
    """The requests for bytes of objects, and how many bytes they brought."""

    def __init__(self) -> None:
        self.methods: list[str] = []
        self.bytes = 0

    def clear(self) -> None:
        self.methods.clear()
        self.bytes = 0


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> Iterator[Requests]:
    """Counts of what goes to the server from now on."""
    counts = Requests()
    call_once = s3.PatientS3FileSystem._call_once

    async def counted(self: s3.PatientS3FileSystem, method: str, *options: object, **arguments: object) -> object:
        answer = await call_once(self, method, *options, **arguments)
        counts.methods.append(method)
        counts.bytes += answer["ContentLength"] if method == "get_object" else 0
        return answer

    monkeypatch.setattr(s3.PatientS3FileSystem, "_call_once", counted)
    return counts


def test_a_window_of_a_cog_reads_its_blocks(s3_bucket: str, tmp_path: Path, requests: Requests) -> None:  # noqa: F811
    pixels = np.random.default_rng(0).integers(0, 256, (2048, 2048, 3), dtype=np.uint8)
    plain = write_image(tmp_path / "plain.tif", pixels)
    rasterio.shutil.copy(plain, tmp_path / "cog.tif", driver="COG", blocksize=256, compress="deflate")
    size = (tmp_path / "cog.tif").stat().st_size
    uri = f"{s3_bucket}/{tmp_path.name}/cog.tif"
    storage.put(uri, (tmp_path / "cog.tif").read_bytes())

    requests.clear()
    with open_raster(uri) as dataset:
        assert read_header(dataset).driver == "GTiff"
        assert requests.methods == ["get_object"]
        assert requests.bytes == FIRST_AHEAD < 0.01 * size
        for x, y in ((0, 0), (700, 900), (1536, 1536)):
            requests.clear()
            window = dataset.read(window=((y, y + 512), (x, x + 512)))
            np.testing.assert_array_equal(np.moveaxis(window, 0, -1), pixels[y : y + 512, x : x + 512])
            assert requests.bytes < 0.15 * size
            assert len(requests.methods) <= 4  # a request for a row of blocks, and one for where they are


def test_a_whole_jpeg_takes_three_requests(s3_bucket: str, tmp_path: Path, requests: Requests) -> None:  # noqa: F811
    pixels = np.random.default_rng(0).integers(0, 256, (1500, 2000, 3), dtype=np.uint8)
    local = write_image(tmp_path / "a.jpg", pixels, quality=90)
    uri = f"{s3_bucket}/{tmp_path.name}/a.jpg"
    storage.put(uri, local.read_bytes())
    assert 2 * 2**20 < local.stat().st_size < LARGEST_AHEAD
    requests.clear()
    with open_raster(uri) as dataset:
        read_header(dataset)
        assert requests.bytes <= FIRST_AHEAD + 4, "its start, and its end where GDAL looks for a mask"
        dataset.read()
    assert (requests.methods, requests.bytes) == (["get_object"] * 3, local.stat().st_size)


def test_an_empty_object_opens(s3_bucket: str, tmp_path: Path) -> None:  # noqa: F811
    storage.put(f"{s3_bucket}/{tmp_path.name}/empty", b"")
    with storage.open_read(f"{s3_bucket}/{tmp_path.name}/empty") as file:
        assert file.read() == b""
