"""Surveys from elsewhere, through the commands: what is damaged fails by itself, and nothing leads anywhere else."""

import csv
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import rasterio
from rasterio.errors import RasterioError

from ssvq.cli import main
from ssvq.errors import ExitCode
from ssvq.imagery.catalog import list_images
from ssvq.scores.data_set import Scores
from tests.support import commands
from tests.support.hostile import hostile_files, tiff, write_files
from tests.support.images import write_image
from tests.support.memory import PeakMemory
from tests.support.pages import Elements
from tests.support.surveys import make_bundle

MOST_MEMORY = 1024 * 2**20  # of any one process; the most, of the scorer, was 744 MB
LIMITS = ["--read.memory", "512", "--read.seconds", "30"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A bundle of untrained weights."""
    location = str(tmp_path_factory.mktemp("bundle"))
    make_bundle(location, tile_size=64)
    return location


def scoring(survey: Path, bundle: str, out: Path, *more: str) -> list[str]:
    """The command that scores a survey under the name s."""
    named = ["--survey", str(survey), "--survey-name", "s", "--model", bundle, "--out", str(out)]
    return ["score", *named, "--device", "cpu", *LIMITS, *more]


def check_ledger(survey: Path, out: Path) -> pa.Table:
    """Every image of the survey has one row that is `scored`, or `failed` with stage and reason. Returns the rows."""
    rows = Scores(str(out)).sql("SELECT * FROM images")
    assert sorted(rows["image_uri"].to_pylist()) == sorted(image.uri for image in list_images(str(survey), "--survey"))
    for status, stage, message in zip(
        *(rows[n].to_pylist() for n in ("status", "error_stage", "error_message")), strict=True
    ):
        if status == "scored":
            assert stage is None
        else:
            assert status == "failed"
            assert stage == "read"
            assert message.isprintable()
            assert "2 times" not in message, "nothing crashed or hung"
    return rows


def check_results(out: Path, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Query, CSV and report take the names as text."""
    rows = Scores(str(out)).sql("SELECT image_uri, status, tiles FROM images").to_pylist()
    scored = {row["image_uri"]: row["tiles"] for row in rows if row["status"] == "scored"}
    capfd.readouterr()
    assert main(["query", str(out), "--named", "failures"]) == ExitCode.DONE
    lines = capfd.readouterr().out.splitlines()
    assert len(lines) == len(rows) - len(scored) + 3
    assert all(line.isprintable() for line in lines)
    counts = Scores(str(out)).sql("SELECT image_uri, count(*) AS tiles FROM tiles GROUP BY image_uri").to_pylist()
    assert {row["image_uri"]: row["tiles"] for row in counts} == {uri: tiles for uri, tiles in scored.items() if tiles}
    for uri in sorted(scored, key=lambda uri: ("'" not in uri, uri))[:3]:
        quoted = uri.replace("'", "''")
        sql = f"SELECT count(*) AS tiles FROM tiles WHERE image_uri = '{quoted}'"
        assert Scores(str(out)).sql(sql).to_pylist() == [{"tiles": scored[uri]}]

    assert main(["export", str(out), "--format", "csv", "--out", str(folder / "tiles.csv")]) == ExitCode.DONE
    with (folder / "tiles.csv").open(newline="", encoding="utf-8") as file:
        exported = {row["image"] for row in csv.DictReader(file)}
    assert exported <= scored.keys()
    assert len(exported) > len(scored) / 2

    page = folder / "page.html"
    code = main(["report", str(out), "--survey", "s", "--out", str(page)])
    assert code in (
        ExitCode.DONE,
        ExitCode.SOME_IMAGES_FAILED,
    )  # a picture may be lost where only its header is damaged
    found = Elements(page.read_text(encoding="utf-8")).found
    assert [tag for tag, _ in found].count("script") == 4, "those of the page alone"
    assert not [attributes for _, attributes in found if any(name.startswith("on") for name in attributes)]
    addresses = [value for _, attributes in found for name, value in attributes.items() if name in ("src", "href")]
    assert all(value and value.startswith("data:") for value in addresses)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_thousand_hostile_files(
    tmp_path: Path, bundle: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    survey, out = tmp_path / "survey", tmp_path / "scores"
    write_files(survey, hostile_files(1000, seed=1))
    before = {path: path.stat().st_mtime_ns for path in survey.rglob("*")}
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("PYTHONPATH", os.fspath(Path.cwd()))
    monkeypatch.chdir(tmp_path / "here")
    process = commands.start(*scoring(survey, bundle, out))
    memory = PeakMemory(process.pid)
    memory.start()
    said, errors = process.communicate()
    memory.over.set()
    assert process.returncode == ExitCode.SOME_IMAGES_FAILED, errors
    assert "Traceback" not in errors
    assert memory.peak < MOST_MEMORY, memory.name_of_peak
    rows = check_ledger(survey, out)
    assert rows["status"].to_pylist().count("scored") > 100
    assert "images, 0 done, 1000 to score" in said
    check_results(out, tmp_path, capfd)
    assert {path: path.stat().st_mtime_ns for path in survey.rglob("*")} == before, "nothing is written beside images"
    assert list((tmp_path / "here").iterdir()) == [], "no name was run"


def test_a_name_that_no_output_can_hold_ends_the_run(
    tmp_path: Path, bundle: str, capfd: pytest.CaptureFixture[str]
) -> None:
    write_image(tmp_path / "survey" / "a.png", np.zeros((8, 8, 3), np.uint8))
    os.rename(tmp_path / "survey" / "a.png", os.fsencode(tmp_path / "survey") + b"/\xff\xfe.png")  # noqa: PTH104
    assert main(scoring(tmp_path / "survey", bundle, tmp_path / "scores")) == ExitCode.WRONG_INPUT
    said = capfd.readouterr().err
    assert said.count("\n") == 1
    assert "not UTF-8; rename it" in said
    assert not (tmp_path / "scores").exists()


# What points elsewhere


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """Address of a server on this machine, and the requests that it saw."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_port}", asked
        listening.shutdown()


def plant(survey: Path, address: str) -> dict[str, str]:
    """Files that lead GDAL to an address; by name, what is to become of each."""
    remote = f"/vsicurl/{address}"
    vrt = (
        '<VRTDataset rasterXSize="64" rasterYSize="64"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        f"<SourceFilename>{remote}/source.tif</SourceFilename><SourceBand>1</SourceBand>"
        "</SimpleSource></VRTRasterBand></VRTDataset>"
    )
    wms = (
        f'<GDAL_WMS><Service name="TMS"><ServerUrl>{address}/${{z}}/${{x}}/${{y}}.png</ServerUrl></Service><DataWindow>'
        "<UpperLeftX>0</UpperLeftX><UpperLeftY>64</UpperLeftY><LowerRightX>64</LowerRightX><LowerRightY>0</LowerRightY>"
        "<SizeX>64</SizeX><SizeY>64</SizeY></DataWindow><BandsCount>3</BandsCount></GDAL_WMS>"
    )
    overviews = f'<Item name="OVERVIEW_FILE" domain="OVERVIEWS">{remote}/overviews.ovr</Item>'
    survey.mkdir()
    for name, text in (("vrt.tif", vrt), ("vrt.png", vrt), ("wms.jpg", wms), ("plain.vrt", vrt), ("path.tif", remote)):
        (survey / name).write_text(text)
    photo = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for name in ("sidecars.png", "sidecars.tif"):
        write_image(survey / name, photo)
        for suffix in (".ovr", ".msk"):
            (survey / f"{name}{suffix}").write_text(vrt)
        (survey / f"{name}.aux.xml").write_text(
            f'<PAMDataset><Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">{remote}/a.ovr</MDI></Metadata>'
            "</PAMDataset>"
        )
    # A TIFF may say itself where its overviews are, which are opened when it is asked for a smaller picture.
    side = {256: (4, 2000), 257: (4, 2000), 278: (4, 2000)}
    told = {42112: (2, f"<GDALMetadata>{overviews}</GDALMetadata>")}
    (survey / "tag.tif").write_bytes(tiff(side | told, bytes(2000 * 2000 * 3)))
    failed = ("vrt.tif", "vrt.png", "wms.jpg", "path.tif", "tag.tif")
    return dict.fromkeys(("sidecars.png", "sidecars.tif"), "scored") | dict.fromkeys(failed, "failed")


@pytest.mark.cluster
@pytest.mark.usefixtures("ray_cluster")
def test_nothing_is_fetched_and_sixty_hostile_files_fail_by_themselves(
    tmp_path: Path, bundle: str, server: tuple[str, list[str]], capfd: pytest.CaptureFixture[str]
) -> None:
    address, asked = server
    survey, out = tmp_path / "survey", tmp_path / "scores"
    expected = plant(survey, address)
    for trap in ("vrt.tif", "wms.jpg", "tag.tif"):  # traps that work, opened by GDAL alone
        with suppress(RasterioError), rasterio.open(survey / trap) as dataset:
            dataset.read(1, out_shape=(32, 32))
        assert asked
        asked.clear()
    write_files(survey / "more", hostile_files(60, seed=2))
    assert main(scoring(survey, bundle, out)) == ExitCode.SOME_IMAGES_FAILED
    check_ledger(survey, out)
    rows = Scores(str(out)).sql("SELECT image_uri, status FROM images").to_pylist()
    found = {row["image_uri"]: row["status"] for row in rows}
    assert {name: found[str(survey / name)] for name in expected} == expected
    check_results(out, tmp_path, capfd)
    assert main(["overlay", str(out), "sidecars.tif", "--out", str(tmp_path / "picture.png")]) == ExitCode.DONE
    assert asked == []


def test_a_manifest_does_not_make_a_request(
    tmp_path: Path, bundle: str, server: tuple[str, list[str]], capfd: pytest.CaptureFixture[str]
) -> None:
    address, asked = server
    for scheme in (address, address.replace("http", "ftp"), address.replace("http", "simplecache::http")):
        (tmp_path / "manifest.csv").write_text(f"image,label\n{scheme}/a.png,good\n")
        arguments = ["evaluate", "--model", bundle, "--manifest", str(tmp_path / "manifest.csv")]
        assert main(arguments) == ExitCode.WRONG_INPUT
        said = capfd.readouterr().err
        assert "is not a supported address; use s3:// or a local path" in said
        assert said.count("\n") == 1
    assert asked == []


@pytest.mark.parametrize("name", ["../../x", "..", ".", "a/b", "/x", "a\\b", "_x", "a=b", "x\n", "*", "\x1b[2J"])
def test_a_survey_name_stays_in_its_folder(
    tmp_path: Path, bundle: str, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    survey, out = tmp_path / "survey", tmp_path / "out" / "scores"
    write_image(survey / "a.png", np.zeros((8, 8, 3), np.uint8))
    arguments = scoring(survey, bundle, out)
    arguments[arguments.index("s")] = name
    assert main(arguments) == ExitCode.WRONG_INPUT
    said = capfd.readouterr().err
    assert "--survey-name" in said
    assert said.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["survey"]


def test_a_model_id_stays_in_its_folder(tmp_path: Path, bundle: str, capfd: pytest.CaptureFixture[str]) -> None:
    survey, evil = tmp_path / "survey", tmp_path / "evil"
    write_image(survey / "a.png", np.zeros((8, 8, 3), np.uint8))
    shutil.copytree(bundle, evil)
    description = evil / "bundle.json"
    text = description.read_text()
    identity = text.split('"model_id": "')[1].split('"')[0]
    description.write_text(text.replace(identity, "../../../evil"))
    assert main(scoring(survey, str(evil), tmp_path / "out" / "scores")) == ExitCode.WRONG_INPUT
    assert "bundle.json is damaged: model_id" in capfd.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evil", "survey"]


@pytest.mark.parametrize("command", ["score", "evaluate"])
def test_settings_that_do_not_describe_the_weights_end_the_job_before_it_starts(
    tmp_path: Path, bundle: str, command: str, capfd: pytest.CaptureFixture[str]
) -> None:
    survey, evil = tmp_path / "survey", tmp_path / "evil"
    write_image(survey / "a.png", np.zeros((8, 8, 3), np.uint8))
    shutil.copytree(bundle, evil)
    text = (evil / "bundle.json").read_text()
    (evil / "bundle.json").write_text(re.sub(r'"codes": \d+', '"codes": 1000000000000', text))
    images = ["evaluate", "--images", str(survey), "--model", str(evil)]
    assert main(scoring(survey, str(evil), tmp_path / "out") if command == "score" else images) == ExitCode.WRONG_INPUT
    said = capfd.readouterr().err
    assert "its weights are not those that its settings describe" in said
    assert said.count("\n") == 1
