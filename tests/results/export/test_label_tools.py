"""Findings for label tools and GIS: what is written is read back as the same labels."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import fromstring

import geopandas
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from pycocotools.coco import COCO

from ssvq.cli import main
from ssvq.errors import ExitCode
from ssvq.imagery.classes import read_classes
from ssvq.imagery.layouts import find_images
from ssvq.imagery.settings import LabelledImages
from ssvq.scores.findings import FINDINGS
from tests.support.images import write_image
from tests.support.one_image import HEIGHT, NOWHERE, UTM, WIDTH, header_of, hot_cells, write_scores

TOOLS = ("coco", "cvat", "label-studio")
RING = hot_cells((slice(2, 8), slice(3, 9))) & ~hot_cells((slice(4, 6), slice(5, 7)))  # with a hole
SPOTS = hot_cells((slice(14, 16), slice(20, 30)), (slice(20, 21), slice(0, 2)))


def scored(tmp_path: Path, hot: NDArray[np.bool_], place: Any = NOWHERE, **header: Any) -> Path:
    out = write_scores(tmp_path / "out", replace(header_of(place), **header), hot)
    assert main(["findings", str(out)]) == ExitCode.DONE
    return out


def export(out: Path, tool: str, file: Path, *more: str) -> int:
    return main(["export", str(out), "--format", tool, "--out", str(file), *more])


def decide(out: Path, state: str) -> None:
    """Give all findings a state, as a person would."""
    (file,) = (out / "findings").rglob("*.parquet")
    table = pq.ParquetFile(file).read()
    states = pa.array([state] * len(table))
    table = table.set_column(table.schema.get_field_index("state"), FINDINGS.field("state"), states)
    pq.write_table(table, file)


def pixels_of(hot: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.kron(hot, np.ones((4, 4), bool))[:HEIGHT, :WIDTH]


@pytest.mark.parametrize("hot", [RING, SPOTS, RING | SPOTS], ids=["hole", "spots", "both"])
@pytest.mark.parametrize("tool", TOOLS)
def test_what_is_written_is_read_as_the_same_mask(tmp_path: Path, tool: str, hot: NDArray[np.bool_]) -> None:
    out = scored(tmp_path, hot)
    decide(out, "confirmed")
    assert export(out, tool, tmp_path / "file") == ExitCode.DONE
    write_image(tmp_path / "images" / "a.tif", np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    config = LabelledImages(images=str(tmp_path / "images"), annotations=str(tmp_path / "file"))
    (image,), failed = find_images(config)
    assert not failed
    assert image.label == "anomaly"
    classes = read_classes(image, 0, 0, WIDTH, HEIGHT)
    np.testing.assert_array_equal(classes > 0, pixels_of(hot))


@pytest.mark.parametrize("tool", TOOLS)
def test_a_rejected_finding_is_normal(tmp_path: Path, tool: str) -> None:
    out = scored(tmp_path, RING)
    decide(out, "rejected")
    assert export(out, tool, tmp_path / "file") == ExitCode.DONE
    write_image(tmp_path / "images" / "a.tif", np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    (image,), _ = find_images(LabelledImages(images=str(tmp_path / "images"), annotations=str(tmp_path / "file")))
    assert (image.label, image.mask) == ("good", None)


def test_pycocotools_takes_the_file(tmp_path: Path) -> None:
    out = scored(tmp_path, RING | SPOTS)
    assert export(out, "coco", tmp_path / "file.json") == ExitCode.DONE
    file = COCO(str(tmp_path / "file.json"))
    found = np.zeros((HEIGHT, WIDTH), bool)
    for annotation in file.loadAnns(file.getAnnIds()):
        found |= file.annToMask(annotation) > 0
        assert annotation["attributes"]["state"] == "new"
        assert annotation["area"] == pytest.approx(file.annToMask(annotation).sum())
    np.testing.assert_array_equal(found, pixels_of(RING | SPOTS))


def test_a_turned_photograph_is_annotated_upright(tmp_path: Path) -> None:
    out = scored(tmp_path, hot_cells((slice(0, 2), slice(0, 3))), orientation=6)  # upright: turned clockwise
    assert export(out, "coco", tmp_path / "file.json") == ExitCode.DONE
    file = json.loads((tmp_path / "file.json").read_text())
    assert (file["images"][0]["width"], file["images"][0]["height"]) == (HEIGHT, WIDTH)
    assert file["annotations"][0]["bbox"] == [HEIGHT - 8, 0, 8, 12]


def test_label_studio_gets_predictions_until_a_person_decides(tmp_path: Path) -> None:
    out = scored(tmp_path, SPOTS)
    assert export(out, "label-studio", tmp_path / "a.json") == ExitCode.DONE
    (task,) = json.loads((tmp_path / "a.json").read_text())
    assert "annotations" not in task
    assert len(task["predictions"][0]["result"]) == 2
    assert task["data"]["image"] == "/data/local-files/?d=survey/a.tif"
    decide(out, "confirmed")
    assert export(out, "label-studio", tmp_path / "b.json") == ExitCode.DONE
    (task,) = json.loads((tmp_path / "b.json").read_text())
    assert len(task["annotations"][0]["result"]) == 2


def test_cvat_names_labels_and_attributes(tmp_path: Path) -> None:
    out = scored(tmp_path, RING | SPOTS)
    assert export(out, "cvat", tmp_path / "a.xml") == ExitCode.DONE
    root = fromstring((tmp_path / "a.xml").read_text())
    assert [label.text for label in root.iterfind("meta/task/labels/label/name")] == ["anomaly", "good"]
    assert [shape.tag for shape in root.iterfind("image/*")].count("mask") == 1
    known = {name.text for name in root.iterfind("meta/task/labels/label/attributes/attribute/name")}
    used = {attribute.get("name") for attribute in root.iterfind("image/*/attribute")}
    assert {"finding_id", "severity", "state"} <= used <= known


def test_geopackage_and_geojson_hold_what_is_on_the_map(tmp_path: Path) -> None:
    out = scored(tmp_path, SPOTS, UTM)
    assert export(out, "gpkg", tmp_path / "a.gpkg") == ExitCode.DONE
    assert export(out, "geojson-findings", tmp_path / "a.geojson") == ExitCode.DONE
    (file,) = (out / "findings").rglob("*.parquet")
    expected = geopandas.read_parquet(file)
    for name in ("a.gpkg", "a.geojson"):
        found = geopandas.read_file(tmp_path / name)
        assert found.crs.to_epsg() == 4326
        assert found["finding_id"].tolist() == expected["finding_id"].tolist()
        assert found["area_m2"].tolist() == pytest.approx(expected["area_m2"].tolist())
        differences = [a.symmetric_difference(b).area for a, b in zip(found.geometry, expected.geometry, strict=True)]
        assert max(differences) < 1e-15  # square degrees


def test_without_a_place_nothing_is_written_for_gis(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = scored(tmp_path, SPOTS)
    assert export(out, "gpkg", tmp_path / "a.gpkg") == ExitCode.WRONG_INPUT
    assert "2 findings of images without a place on the map" in capsys.readouterr().err
    assert not (tmp_path / "a.gpkg").exists()


@pytest.mark.parametrize("tool", [*TOOLS, "gpkg", "geojson-findings"])
def test_without_findings(tmp_path: Path, tool: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = write_scores(tmp_path / "out", header_of(NOWHERE), SPOTS)
    assert export(out, tool, tmp_path / "a") == ExitCode.WRONG_INPUT
    assert f"make it by `ssvq findings {out} --survey s`" in capsys.readouterr().err
    assert main(["findings", str(out), "--threshold", "99"]) == ExitCode.DONE
    assert export(out, tool, tmp_path / "a") == ExitCode.DONE, "an empty file says that there is none"
    assert "0 findings" in capsys.readouterr().out


def test_one_survey_in_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for survey in ("s", "t"):
        out = write_scores(tmp_path / "out", header_of(NOWHERE), SPOTS, survey=survey)
    assert main(["findings", str(out)]) == ExitCode.DONE
    assert export(out, "coco", tmp_path / "a") == ExitCode.WRONG_INPUT
    assert "--survey is missing" in capsys.readouterr().err
    assert export(out, "coco", tmp_path / "a", "--survey", "t") == ExitCode.DONE
