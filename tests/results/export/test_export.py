"""`ssvq export` over outputs written as a scoring run writes them: pixels, tiles and the world agree."""

import csv
import json
import math
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio
import shapely
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.transform import Affine
from rasterio.warp import transform as transform_coordinates
from rio_cogeo.cogeo import cog_validate
from shapely.geometry import shape

from ssvq.cli import main
from ssvq.errors import ExitCode
from ssvq.imagery.raster import open_raster, read_header
from ssvq.results.export.cog import encode_cog
from ssvq.results.export.regions_geojson import find_regions
from ssvq.results.ground import on_the_ground
from ssvq.scores.heat_map import HeatMap
from ssvq.scores.layout import Partition
from tests.support.images import write_image
from tests.support.one_image import (
    ANTIMERIDIAN,
    HEIGHT,
    MODEL,
    NOWHERE,
    PLACES,
    ROTATED,
    THRESHOLD,
    TILING,
    UTM,
    WIDTH,
    header_of,
    hot_cells,
    write_scores,
)
from tests.support.rows import image_of


def run(*arguments: object) -> None:
    assert main(["export", *map(str, arguments)]) == ExitCode.DONE


def read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def pixels_of(place: tuple[str, Affine], lonlat: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pixels (n, 2) of places, by rasterio."""
    crs, affine = place
    x, y = np.array(transform_coordinates("OGC:CRS84", crs, *lonlat.T))
    if crs == "EPSG:4326":
        x = np.where(x < 0, x + 360, x)  # the raster counts on beyond 180 degrees
    inverse = ~affine
    return np.column_stack([inverse.a * x + inverse.b * y + inverse.c, inverse.d * x + inverse.e * y + inverse.f])


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_a_heat_map_is_a_cog_where_the_image_lies(tmp_path: Path, place: tuple[str, Affine]) -> None:
    hot = hot_cells((slice(5, 6), slice(7, 8)))
    scores, out = write_scores(tmp_path / "scores", header_of(place), hot), tmp_path / "heat.tif"
    run(scores, "--image", "a.tif", "--format", "cog", "--out", out)
    valid, errors, warnings = cog_validate(out, strict=True, quiet=True)
    assert (valid, errors, warnings) == (True, [], [])
    with rasterio.open(out) as dataset:
        assert dataset.crs == rasterio.crs.CRS.from_string(place[0])
        assert dataset.dtypes == ("float32",)
        assert math.isnan(dataset.nodata)
        assert dataset.compression.name == "deflate"
        assert dataset.tags(ns="IMAGE_STRUCTURE")["PREDICTOR"] == "3"
        assert float(dataset.tags()["threshold"]) == 1
        values = dataset.read(1)
        for row, col in ((0, 0), (21, 36), (5, 7)):
            centre = np.array(dataset.xy(row, col))
            expected = np.array(place[1] * (4 * col + 2, 4 * row + 2))
            assert np.abs(centre - expected).max() < abs(place[1].determinant) ** 0.5 / 2, "half a pixel"
    np.testing.assert_array_equal(values, np.where(hot, 4, 0.5))


def test_a_large_heat_map_has_overviews(tmp_path: Path) -> None:
    heat = HeatMap(np.random.default_rng(0).random((700, 900), np.float32), 16, 16)
    heat.values[:100] = np.nan
    image = {"crs": UTM[0], "transform": tuple(UTM[1])[:6], "image_uri": "/a", "survey": "s", "model_id": "m"}
    out = tmp_path / "heat.tif"
    out.write_bytes(encode_cog(heat, image_of(image | {"tiling_id": "t"}), 0.5))
    assert cog_validate(out, strict=True, quiet=True) == (True, [], [])
    with rasterio.open(out) as dataset:
        assert dataset.overviews(1) == [2, 4]
        halved = dataset.read(1, out_shape=(350, 450))
        np.testing.assert_array_equal(dataset.read(1), heat.values)
    assert np.isnan(halved[:50]).all()
    expected = np.sqrt((heat.values[100:].astype(float) ** 2).reshape(300, 2, 450, 2).mean((1, 3)))
    np.testing.assert_allclose(halved[50:], expected, rtol=1e-5)


def test_without_a_georeference_it_is_a_plain_cog(tmp_path: Path) -> None:
    scores, out = write_scores(tmp_path / "scores", header_of(NOWHERE)), tmp_path / "heat.tif"
    run(scores, "--image", "a.tif", "--format", "cog", "--out", out)
    assert cog_validate(out, strict=True, quiet=True)[0]
    with rasterio.open(out) as dataset:
        assert dataset.crs is None
        assert dataset.transform == Affine.identity()


def test_an_image_placed_by_ground_control_points(tmp_path: Path) -> None:
    """rasterio maps the points' pixels to the points' places; so does the heat map, and so do regions and tiles."""
    crs, affine = ROTATED
    points = [
        GroundControlPoint(row, col, *(affine * (col, row)), 0.0)
        for row, col in ((0, 0), (0, WIDTH), (HEIGHT, WIDTH), (HEIGHT, 0), (40, 70))
    ]
    source = tmp_path / "a.tif"
    write_image(source, np.zeros((HEIGHT, WIDTH), np.uint8), gcps=points, crs=crs)
    with open_raster(str(source)) as dataset:
        header = read_header(dataset)
    hot = hot_cells((slice(5, 10), slice(7, 15)))
    scores = write_scores(tmp_path / "scores", header, hot)
    for form in ("cog", "geojson", "csv"):
        run(scores, "--image", "a.tif", "--format", form, "--out", tmp_path / f"out.{form}")
    with rasterio.open(tmp_path / "out.cog") as dataset:
        for point in points:
            row, col = (~dataset.transform * (point.x, point.y))[::-1]
            assert abs(4 * row - point.row) < 0.5
            assert abs(4 * col - point.col) < 0.5
    (region,) = read_json(tmp_path / "out.geojson")["features"]
    found = pixels_of(ROTATED, shapely.get_coordinates(shape(region["geometry"])))
    assert np.abs(found.min(axis=0) - (28, 20)).max() < 0.5
    assert np.abs(found.max(axis=0) - (60, 40)).max() < 0.5
    check_centres(tmp_path / "out.csv", ROTATED)


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_regions_lie_where_their_cells_do(tmp_path: Path, place: tuple[str, Affine]) -> None:
    """A frame, with a hole that is no part of it, and a part at the image's corner."""
    hot = hot_cells((slice(2, 12), slice(10, 30)), (slice(20, 22), slice(35, 37)))
    hot[5:9, 14:25] = False
    scores, out = write_scores(tmp_path / "scores", header_of(place), hot), tmp_path / "regions.geojson"
    run(scores, "--image", "a.tif", "--format", "geojson", "--out", out)
    features = read_json(out)["features"]
    crs, affine = place
    expected = {
        float(outline.area): outline
        for outline in (shapely.box(40, 8, 120, 48) - shapely.box(56, 20, 100, 36), shapely.box(140, 80, 148, 88))
    }
    assert sorted(feature["properties"]["area_pixels"] for feature in features) == sorted(expected)
    for feature in features:
        properties, outline = feature["properties"], shape(feature["geometry"])
        assert (properties["score_max"], properties["score_mean"], properties["threshold"]) == (4, 4, 1)
        assert outline.is_valid
        assert np.abs(shapely.get_coordinates(outline)[:, 0]).max() <= 180
        for part in shapely.get_parts(outline):
            assert part.exterior.is_ccw
            assert not any(hole.is_ccw for hole in part.interiors)
        back = shapely.transform(outline, lambda lonlat: pixels_of(place, lonlat))
        back = shapely.union_all([shapely.make_valid(part).buffer(1e-3) for part in shapely.get_parts(back)])
        assert shapely.hausdorff_distance(back, expected[properties["area_pixels"]]) < 0.5
        if crs.startswith("EPSG:32"):  # UTM's scale is within 0.04 % near its central meridian, and a little more afar
            square_metres = properties["area_pixels"] * abs(affine.determinant)
            assert properties["area_m2"] == pytest.approx(square_metres, rel=5e-3)
    if place is ANTIMERIDIAN:
        assert {feature["geometry"]["type"] for feature in features} == {"MultiPolygon", "Polygon"}


@given(st.integers(0, 2**20), st.integers(1, 6), st.integers(1, 6), st.floats(0.2, 0.8))
def test_regions_are_the_hot_cells_joined(seed: int, rows: int, cols: int, share: float) -> None:
    """Any pattern of cells: valid outlines, apart from each other, that cover the hot cells and nothing else."""
    hot = np.random.default_rng(seed).random((rows, cols)) < share
    values = np.where(hot, 2, np.where(np.arange(cols) % 3 == 2, np.nan, 1)).astype(np.float32)
    width, height = 4 * cols - 1, 4 * rows - 3
    regions = find_regions(HeatMap(values, 4, 4), width, height, 2)
    outlines = [region.outline for region in regions]
    assert all(outline.is_valid for outline in outlines)
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    inside = sum((shapely.contains_xy(outline, x, y).astype(int) for outline in outlines), np.zeros(x.shape, int))
    np.testing.assert_array_equal(inside, hot[(y // 4).astype(int), (x // 4).astype(int)])
    assert sum(region.pixels for region in regions) == pytest.approx(inside.sum())
    for i, first in enumerate(outlines):
        assert all(first.distance(second) > 0 for second in outlines[:i])


@given(
    st.floats(0, 360),
    st.floats(-170, 170),
    st.floats(-80, 80),
    st.sampled_from([0.01, 1.0, 30.0]),
    st.booleans(),
)
def test_any_turned_image_of_any_zone(
    turn: float, longitude: float, latitude: float, metres: float, south: bool
) -> None:
    """A square of 400 x 400 pixels comes back to its pixels, within half of one."""
    zone = int((longitude + 180) // 6) + 1
    crs = f"EPSG:{32600 + zone if latitude >= 0 else 32700 + zone}"
    (x,), (y,) = transform_coordinates("OGC:CRS84", crs, [longitude], [latitude])
    affine = Affine.translation(x, y) * Affine.rotation(turn) * Affine.scale(metres, metres if south else -metres)
    image = image_of({"crs": crs, "transform": tuple(affine)[:6]})
    outline = on_the_ground(shapely.box(3000, 2000, 3400, 2400), image)
    assert outline is not None
    assert outline.is_valid
    back = pixels_of((crs, affine), shapely.get_coordinates(outline))
    np.testing.assert_allclose(back.min(axis=0), (3000, 2000), atol=0.5)
    np.testing.assert_allclose(back.max(axis=0), (3400, 2400), atol=0.5)


def test_a_threshold_of_ones_own(tmp_path: Path) -> None:
    scores = write_scores(tmp_path / "scores", header_of(UTM), hot_cells((slice(0, 2), slice(0, 2))))
    out = tmp_path / "regions.geojson"
    counts = {}
    for threshold in (0.5, 4, 4.01):
        run(scores, "--format", "geojson", "--out", out, "--threshold", threshold)
        counts[threshold] = [feature["properties"]["area_pixels"] for feature in read_json(out)["features"]]
    assert counts == {0.5: [WIDTH * HEIGHT], 4: [64], 4.01: []}


def test_a_method_without_cells_has_regions_of_tiles(tmp_path: Path) -> None:
    hot = hot_cells((slice(0, 8), slice(0, 8)))
    scores, out = write_scores(tmp_path / "scores", header_of(UTM), hot, cells=False), tmp_path / "regions.geojson"
    run(scores, "--format", "geojson", "--out", out)
    (region,) = read_json(out)["features"]
    assert region["properties"]["threshold"] == THRESHOLD
    assert region["properties"]["score_max"] == pytest.approx(32)
    assert region["properties"]["area_pixels"] == 32 * 32


def check_centres(path: Path, place: tuple[str, Affine]) -> list[dict[str, str]]:
    """The rows of a CSV, the place of each tile's centre within half a pixel of where rasterio has it."""
    rows = list(csv.DictReader(path.open()))
    lonlat = np.array([[float(row["longitude"]), float(row["latitude"])] for row in rows])
    assert np.abs(lonlat[:, 0]).max() <= 180
    centres = [[int(row["x"]) + int(row["width"]) / 2, int(row["y"]) + int(row["height"]) / 2] for row in rows]
    assert np.abs(pixels_of(place, lonlat) - centres).max() < 0.5
    return rows


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_csv_has_a_row_for_each_tile(tmp_path: Path, place: tuple[str, Affine]) -> None:
    scores = write_scores(tmp_path / "scores", header_of(place), hot_cells((slice(0, 8), slice(0, 8))))
    run(scores, "--image", "a.tif", "--format", "csv", "--out", tmp_path / "tiles.csv")
    rows = check_centres(tmp_path / "tiles.csv", place)
    assert len(rows) == 5 * 3
    first = {name: rows[0][name] for name in ("image", "tile_id", "x", "y", "width", "height", "is_anomalous")}
    place_of_first = {"x": "0", "y": "0", "width": "32", "height": "32"}
    assert first == {"image": "/survey/a.tif", "tile_id": "a-0-0", "is_anomalous": "true", **place_of_first}
    assert [rows[0]["score"], rows[1]["score"], rows[1]["p_value"]] == ["32", "4", "0.25"]


def test_csv_of_images_here_and_there(tmp_path: Path) -> None:
    """One image without a place, and one with coordinates that lie nowhere, cost the others nothing."""
    scores = tmp_path / "scores"
    off_the_map = ("EPSG:32633", Affine(1e6, 0, 5e9, 0, -1e6, 5e9))
    local = ('LOCAL_CS["site",UNIT["metre",1]]', UTM[1])
    places = {"a.tif": UTM, "b.jpg": NOWHERE, "c.tif": off_the_map, "d.tif": local}
    for name, place in places.items():
        write_scores(scores, header_of(place), name=name)
    run(scores, "--format", "csv", "--out", tmp_path / "tiles.csv")
    rows = list(csv.DictReader((tmp_path / "tiles.csv").open()))
    assert [row["image"] for row in rows] == [f"/survey/{name}" for name in places for _ in range(15)]
    assert {row["image"] for row in rows if row["longitude"]} == {"/survey/a.tif"}


@pytest.mark.parametrize("place", [*PLACES.values(), NOWHERE], ids=[*PLACES, "nowhere"])
def test_an_item_links_image_score_map_and_heat_map(tmp_path: Path, place: tuple[Any, Any]) -> None:
    header = header_of(place, captured_at=datetime(2026, 3, 4, 5, 6, 7))
    scores = write_scores(tmp_path / "scores", header, hot_cells((slice(0, 8), slice(0, 8))))
    run(scores, "--image", "a.tif", "--format", "cog", "--out", tmp_path / "maps" / "a.tif")
    run(scores, "--image", "a.tif", "--format", "stac", "--out", tmp_path / "maps" / "a.json")
    stored = read_json(tmp_path / "maps" / "a.json")
    item = pystac.Item.from_dict(stored)
    item.validate()
    assert {name: asset.href for name, asset in item.assets.items()} == {
        "image": "/survey/a.tif",
        "score_map": f"{scores}/tiles/s/{MODEL}/32-32-shift/a.parquet",
        "heat_map": f"{tmp_path}/maps/a.tif",
    }
    assert Path(item.assets["score_map"].href).is_file()
    assert item.datetime == datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
    properties = item.properties
    assert (properties["ssvq:survey"], properties["ssvq:model_id"]) == ("s", MODEL)
    assert (properties["ssvq:tiles"], properties["ssvq:anomalous_tiles"], properties["ssvq:worst_score"]) == (15, 1, 32)
    if place is NOWHERE:
        assert item.geometry is None
        assert "bbox" not in stored
        return
    outline = shape(item.geometry)
    assert outline.is_valid
    west, south, east, north = stored["bbox"]
    assert south < north
    assert (west > east) == (place is ANTIMERIDIAN)
    found = pixels_of(place, shapely.get_coordinates(outline))
    assert np.abs(found.min(axis=0)).max() < 0.5
    assert np.abs(found.max(axis=0) - (WIDTH, HEIGHT)).max() < 0.5


def test_items_of_a_survey(tmp_path: Path) -> None:
    scores = tmp_path / "scores"
    write_scores(scores, header_of(UTM))
    write_scores(scores, header_of(NOWHERE, driver="JPEG", latitude=50.5, longitude=-0.25), name="b.jpg")
    write_scores(scores, header_of(NOWHERE), name="c.jpg", status="failed")
    write_scores(scores, header_of(UTM), survey="other")
    run(scores, "--survey", "s", "--format", "cog", "--out", tmp_path / "maps")
    run(scores, "--survey", "s", "--format", "stac", "--out", tmp_path / "maps" / "items.json")
    collection = pystac.ItemCollection.from_dict(read_json(tmp_path / "maps" / "items.json"))
    for item in collection:
        item.validate()
        assert Path(item.assets["heat_map"].href).is_file()
    a, b = collection
    assert len({item.id for item in collection}) == 2
    assert a.properties["datetime"] == "2026-01-01T12:00:00Z"
    assert b.geometry == {"type": "Point", "coordinates": [-0.25, 50.5]}
    assert b.properties["ssvq:geometry_from"] == "camera"
    assert b.assets["image"].media_type == "image/jpeg"


def test_what_only_has_the_name_of_a_heat_map_is_not_linked(tmp_path: Path) -> None:
    scores = write_scores(tmp_path / "scores", header_of(UTM))
    write_image(tmp_path / "a.tif", np.zeros((8, 8), np.uint8))
    run(scores, "--image", "a.tif", "--format", "stac", "--out", tmp_path / "a.json")
    assert "heat_map" not in read_json(tmp_path / "a.json")["assets"]


def test_the_latest_model_is_taken_and_another_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores, out = tmp_path / "scores", tmp_path / "regions.geojson"
    write_scores(scores, header_of(UTM), hot_cells((slice(0, 2), slice(0, 2))), model="new", hour=13)
    write_scores(scores, header_of(UTM), model="old")
    run(scores, "--format", "geojson", "--out", out)
    assert "left out: scores of model old, tiling 32-32-shift" in capsys.readouterr().err
    assert len(read_json(out)["features"]) == 1
    run(scores, "--format", "geojson", "--out", out, "--model-id", "old")
    assert read_json(out)["features"] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--image", "z.tif", "--format", "csv"], "no image of .* ends with 'z.tif'"),
        (["--image", "a.tif", "--format", "csv"], "2 images of .* end with 'a.tif'"),
        (["--image", "bad.tif", "--format", "csv"], "bad.tif failed .is empty.: it has no score map"),
        (["--image", "photo.jpg", "--format", "geojson"], "photo.jpg has no place on the map; GeoJSON is in longitude"),
        (["--survey", "x", "--format", "csv"], "--survey x: .* has no such survey, but s"),
        (["--model-id", "x", "--format", "csv"], f"--model-id x: .* but by {MODEL}"),
        (["--format", "kml"], "--format: "),
        (["--format", "geojson", "--threshold", "0"], "--threshold: "),
    ],
)
def test_what_cannot_be_exported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    scores = tmp_path / "scores"
    write_scores(scores, header_of(UTM))
    write_scores(scores, header_of(UTM), name="aa.tif")
    write_scores(scores, header_of(NOWHERE), name="photo.jpg")
    write_scores(scores, header_of(NOWHERE), name="bad.tif", status="failed")
    out = tmp_path / "out"
    assert main(["export", str(scores), *arguments, "--out", str(out)]) == ExitCode.WRONG_INPUT
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert re.search(message, line)
    assert not out.exists()


def test_a_damaged_score_map_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores = write_scores(tmp_path / "scores", header_of(UTM))
    write_scores(scores, header_of(UTM), name="b.tif")
    path = Path(Partition(str(scores), "s", MODEL, TILING.tiling_id).score_map("b"))
    whole = path.read_bytes()
    for damage in (whole[:1000], None):
        path.write_bytes(damage) if damage else path.unlink()
        for form in ("cog", "geojson", "csv", "stac"):
            arguments = ["export", str(scores), "--image", "/survey/b.tif", "--format", form]
            assert main([*arguments, "--out", str(tmp_path / "out")]) == ExitCode.WRONG_INPUT
            assert "b.parquet" in capsys.readouterr().err


def test_an_output_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores = write_scores(tmp_path / "scores", header_of(UTM))
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "x.csv"
    assert main(["export", str(scores), "--format", "csv", "--out", str(out)]) == ExitCode.WRONG_INPUT
    assert f"--out {out} cannot be written" in capsys.readouterr().err
    assert main(["export", str(scores), "--format", "csv", "--out", "/survey/a.tif"]) == ExitCode.WRONG_INPUT
    assert "is the image itself" in capsys.readouterr().err
