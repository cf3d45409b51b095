"""Sizes of the field, in the memory of a small machine."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.windows import Window

from ssvq.errors import ExitCode
from ssvq.scores.data_set import Scores
from tests.support.commands import start
from tests.support.memory import PeakMemory
from tests.support.surveys import make_bundle

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

SIDE, BLOCK = 40_000, 512


def write_orthomosaic(path: Path) -> None:
    """A tiled GeoTIFF of 40,000 x 40,000 RGB pixels, 4.8 GB when it is decoded."""
    path.parent.mkdir()
    rng = np.random.default_rng(0)
    ground = rng.integers(0, 8, (3, BLOCK, BLOCK), np.uint8) + np.linspace(0, 200, BLOCK, dtype=np.uint8)
    profile = {"driver": "GTiff", "width": SIDE, "height": SIDE, "count": 3, "dtype": "uint8", "crs": "EPSG:32632"}
    layout = {"tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "compress": "zstd", "zstd_level": 1}
    place = rasterio.Affine(0.05, 0, 400_000, 0, -0.05, 5_200_000)
    with rasterio.open(path, "w", **profile, **layout, transform=place, interleave="pixel", bigtiff="yes") as image:
        for y in range(0, SIDE, BLOCK):
            band = np.tile(np.roll(ground, y // BLOCK, axis=2), (1, 1, -(-SIDE // BLOCK)))[:, : SIDE - y, :SIDE]
            image.write(band, window=Window(0, y, SIDE, band.shape[1]))


@pytest.mark.soak
def test_an_orthomosaic_of_40000_pixels_a_side_in_2_gb_a_process(tmp_path: Path) -> None:
    write_orthomosaic(tmp_path / "survey" / "ortho.tif")
    make_bundle(tmp_path / "bundle", tile_size=BLOCK)
    out = str(tmp_path / "scores")
    run = start("score", "--survey", str(tmp_path / "survey"), "--model", str(tmp_path / "bundle"), "--out", out)
    memory = PeakMemory(run.pid)
    memory.start()
    output, errors = run.communicate()
    memory.over.set()
    assert run.returncode == ExitCode.DONE, errors
    print(output, f"peak {memory.peak / 1e9:.2f} GB in {memory.name_of_peak}")
    assert memory.peak < 2e9, memory.name_of_peak
    (counted,) = Scores(out).sql("SELECT count(*) AS n, count(DISTINCT (x, y)) AS places FROM tiles").to_pylist()
    assert counted == {"n": 79 * 79, "places": 79 * 79}
    assert len(list((tmp_path / "scores" / "tiles").rglob("*.parquet"))) == 1
