"""The pictures: an image under its heat, and the worst tiles of a survey."""

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import rasterio
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib_scalebar.scalebar import ScaleBar
from rasterio.transform import from_origin

from ssvq.cli import main
from ssvq.errors import ExitCode
from ssvq.io import parquet, storage
from ssvq.results.pictures.heat import metres_in_pixel
from ssvq.results.pictures.montage import draw_montage, worst_tiles
from ssvq.results.pictures.overlay import draw_overlay, find_image, read_pixel_rule
from ssvq.scores.layout import Partition, model_file
from ssvq.scores.ledger import LedgerWriter
from ssvq.scores.objects import read_heat_scale
from ssvq.scores.schema import SCORE_MAP
from tests.support.images import write_image
from tests.support.rows import row_of, to_table

MODEL, TILING = "m" * 16, "32-32-shift"


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Two images of four tiles with 8x8 cells; tile i of image n scores 10 n + i, hot in its upper half."""
    out = tmp_path / "scores"
    storage.put_text(model_file(str(out), MODEL), json.dumps({"preprocessing": {}}))
    partition = Partition(str(out), "s", MODEL, TILING)
    with LedgerWriter(str(out), "run") as ledger:
        for n in range(2):
            path = write_image(tmp_path / "photos" / f"{n}.png", np.full((32, 128, 3), 60 + 60 * n, np.uint8))
            identity = {"survey": "s", "image_uri": str(path), "image_id": f"i{n}", "fingerprint": "f"}
            identity |= {"model_id": MODEL, "tiling_id": TILING, "run_id": "run"}
            rows = []
            for i in range(4):
                cells = np.full((8, 8), 0.1)
                cells[:4] = 3 + i
                place = {"row": 0, "col": i, "x": 32 * i, "y": 0, "width": 32, "height": 32}
                rows.append(
                    identity
                    | place
                    | {"tile_id": f"i{n}-0-{i}", "score": 10.0 * n + i, "threshold": 12.0, "p_value": 0.5}
                    | {"is_anomalous": 10 * n + i >= 12, "score_map": cells.astype(np.float16).tolist()}
                )
            info = storage.put(partition.score_map(f"i{n}"), parquet.encode(to_table(rows, SCORE_MAP)))
            raster = {"image_width": 128, "image_height": 32, "driver": "PNG"}
            version = {"object_version": info.version, "recorded_at": datetime(2026, 11, 24, tzinfo=UTC)}
            ledger.add(row_of(identity | raster | version | {"status": "scored", "tiles": 4}))
    return out


def texts(figure: Figure) -> str:
    """All that is written in a figure."""
    figure.canvas.draw()
    return "\n".join(t for text in figure.findobj(Text) if (t := text.get_text().strip()))


def test_an_image_under_its_heat(output: Path) -> None:
    image, tiles = find_image(str(output), "1.png", None)
    figure = draw_overlay(image, tiles, read_pixel_rule(str(output), MODEL), read_heat_scale(str(output), MODEL))
    written = texts(figure)
    assert "2 of 4 tiles at or over 12; worst 13" in written
    assert [type(artist) for artist in figure.axes[0].artists] == [ScaleBar]
    heated = figure.axes[1]
    frames = sorted(patch.get_x() for patch in heated.patches if patch.get_width() == 32)
    assert frames == [64, 96]
    assert heated.collections, "the contour of the threshold is missing"


def test_the_worst_tiles_in_order(output: Path) -> None:
    tiles = worst_tiles(str(output), 5, "s", None)
    assert [tile.tile_id for tile in tiles] == ["i1-0-3", "i1-0-2", "i1-0-1", "i1-0-0", "i0-0-3"]
    figure = draw_montage(str(output), tiles)
    drawn = [panel for panel in figure.axes if panel.images]
    assert [int(panel.images[0].get_array()[0, 0, 0]) for panel in drawn] == [120, 120, 120, 120, 60]
    assert all(panel.collections for panel in drawn)


def test_a_source_that_is_gone_is_said_in_its_panel(output: Path, tmp_path: Path) -> None:
    (tmp_path / "photos" / "1.png").unlink()
    tiles = worst_tiles(str(output), 5, None, MODEL)
    figure = draw_montage(str(output), tiles)
    assert sum(bool(panel.images) for panel in figure.axes) == 1
    assert texts(figure).count("No such file") == 4


def test_commands(output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "new" / "picture.png"
    assert main(["overlay", str(output), "--worst", "3", "--out", str(picture)]) == ExitCode.DONE
    assert "the worst 3 tiles" in capsys.readouterr().out
    assert picture.stat().st_size > 1000
    assert main(["overlay", str(output), "0.png", "--out", str(picture)]) == ExitCode.DONE
    for wrong, message in (
        ([], "give the image to draw, or --worst"),
        (["0.png", "--worst", "3"], "give the image to draw, or --worst"),
        (["--worst", "3", "--survey", "x"], "--survey x:"),
    ):
        capsys.readouterr()
        assert main(["overlay", str(output), *wrong, "--out", str(picture)]) == ExitCode.WRONG_INPUT
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("crs", "pixel", "expected"),
    [("EPSG:32632", 0.25, 0.25), ("EPSG:2263", 1.0, 0.3048006), ("EPSG:4326", 0.001, None), (None, 1.0, None)],
)
def test_the_scale_bar_is_in_metres_where_the_crs_has_them(
    tmp_path: Path, crs: str | None, pixel: float, expected: float | None
) -> None:
    path = tmp_path / "a.tif"
    profile = {"driver": "GTiff", "width": 8, "height": 8, "count": 1, "dtype": "uint8", "crs": crs}
    with rasterio.open(path, "w", **profile, transform=from_origin(5e5, 5e6 if pixel != 0.001 else 40, pixel, pixel)):
        pass
    with rasterio.open(path) as dataset:
        assert metres_in_pixel(dataset) == (None if expected is None else pytest.approx(expected, rel=1e-5))
