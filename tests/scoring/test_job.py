"""The scoring job on a real local Ray cluster: what is planned, left out, removed, and what is in its way."""

import json
import os
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image

from ssvq.config import ReportConfig, ScoreConfig
from ssvq.errors import ExitCode, InputError
from ssvq.inference.scorer import TileScorer
from ssvq.model.description import Bundle
from ssvq.results.report.job import report
from ssvq.runtime import placement
from ssvq.runtime.planning import ImageStream
from ssvq.scores.data_set import Scores
from ssvq.scores.ledger import read_ledger
from ssvq.scoring import job
from ssvq.scoring.job import score
from tests.support.images import write_image
from tests.support.surveys import TILE, make_bundle, paint

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("ray_cluster")]


class Survey:
    """A survey of some images, and a model to score it with."""

    def __init__(self, root: Path) -> None:
        self.images, self.out, self.model = root / "survey", root / "scores", root / "bundle"
        self.bundle: Bundle = make_bundle(self.model)

    def add(self, name: str, height: int = TILE, width: int = 2 * TILE) -> Path:
        return write_image(self.images / name, paint(np.random.default_rng(len(name)), height, width, rough=True)[0])

    def config(self, **changes: Any) -> ScoreConfig:
        settings = {"survey": str(self.images), "model": str(self.model), "out": str(self.out)}
        return ScoreConfig(**settings | changes)

    def score(self, **changes: Any) -> ExitCode:
        return score(self.config(**changes))

    def sql(self, text: str) -> list[dict[str, Any]]:
        return Scores(str(self.out)).sql(text).to_pylist()


@pytest.fixture
def survey(tmp_path: Path) -> Survey:
    return Survey(tmp_path)


def test_a_dry_run_says_what_a_run_would_do_and_does_nothing(
    survey: Survey, capsys: pytest.CaptureFixture[str]
) -> None:
    survey.add("done.png")
    survey.score()
    for name in ("a.png", "b.png"):
        survey.add(name, 3 * TILE, 3 * TILE)
    survey.add("left out.png")
    (survey.images / "bad.png").write_text("no image")
    before = {path: path.stat().st_mtime_ns for path in survey.out.rglob("*")}
    capsys.readouterr()
    assert survey.score(dry_run=True, exclude=["left*"]) == ExitCode.DONE
    output = capsys.readouterr().out
    assert "survey 'survey': 4 images, 1 done, 3 to score" in output
    size = sum((survey.images / name).stat().st_size for name in ("a.png", "b.png"))
    assert f"to score: 18 tiles of 2 images; to read: {size / 1e6:.1f} MB" in output
    assert re.search(r"^will fail: .*bad\.png \(read\): is not an image of a known kind", output, re.M)
    assert re.search(
        r"^estimate: \d+:\d\d:\d\d at [\d.]+ tiles a second, the model alone, measured on this", output, re.M
    )
    assert {path: path.stat().st_mtime_ns for path in survey.out.rglob("*")} == before

    # The estimate rests on the latest run that scored enough tiles to say something.
    (run,) = (survey.out / "runs").iterdir()
    record = json.loads(run.read_text())
    run.write_text(json.dumps(record | {"summary": record["summary"] | {"tiles": 1000, "scoring_seconds": 8.0}}))
    survey.score(dry_run=True)
    assert f"at 125.0 tiles a second, as in run {run.stem}" in capsys.readouterr().out


def test_a_limit_is_gone_on_from_and_removed_images_are_pruned(
    survey: Survey, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in "abc":
        survey.add(f"{name}.png")
    survey.score(limit=2)
    output = capsys.readouterr().out
    assert "scored 2 images, 4 tiles" in output
    assert "1 images are left because of --limit: run the same command again" in output
    survey.score(limit=2)
    assert "3 images, 2 done, 1 to score" in capsys.readouterr().out
    (survey.images / "a.png").unlink()
    assert survey.score() == ExitCode.DONE
    assert len(survey.sql("SELECT * FROM tiles")) == 6, "what was removed stays"
    capsys.readouterr()
    assert survey.score(prune=True) == ExitCode.DONE
    assert "removed the scores of 1 images that are no longer in the survey" in capsys.readouterr().out
    assert len(survey.sql("SELECT * FROM tiles")) == 4
    assert survey.score(prune=True) == ExitCode.DONE
    assert "nothing to do" in capsys.readouterr().out


def test_overlapping_tiles_are_a_tiling_of_their_own(survey: Survey) -> None:
    survey.add("a.png", 2 * TILE, 3 * TILE)
    survey.score()
    survey.score(stride=TILE // 2)
    counted = survey.sql("SELECT tiling_id, count(*) AS n FROM tiles GROUP BY tiling_id ORDER BY n")
    assert counted == [{"tiling_id": "32-32-shift", "n": 6}, {"tiling_id": "32-16-shift", "n": 15}]
    shared = "SELECT x, y, count(DISTINCT score) AS scores FROM tiles GROUP BY x, y HAVING count(*) = 2"
    assert [row["scores"] for row in survey.sql(shared)] == [1] * 6
    with pytest.raises(InputError, match=r"--stride 40 exceeds the model's tile size 32"):
        survey.score(stride=40)


ODD_NAMES = ["a b.png", "it's.png", 'say "x".png', "grün 图像.png", "a..b.png"]
ODD_NAMES += ["c..d/e..png", "100%.png", "a#1?.png", "-x.png"]


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Survey:
    """A scored survey of images with odd names, a link to one, and links and a pipe that lead nowhere."""
    survey = Survey(tmp_path_factory.mktemp("odd"))
    for name in ODD_NAMES:
        survey.add(name)
    (survey.images / "loop").symlink_to(survey.images, target_is_directory=True)
    (survey.images / "self.png").symlink_to(survey.images / "self.png")
    (survey.images / "nowhere.png").symlink_to(survey.images / "missing.png")
    (survey.images / "link.png").symlink_to(survey.images / "a b.png")
    os.mkfifo(survey.images / "pipe.png")
    assert survey.score(survey_name="odd") == ExitCode.DONE
    return survey


def test_odd_names(odd: Survey) -> None:
    uris = [row["image_uri"] for row in odd.sql("SELECT image_uri FROM images WHERE status = 'scored'")]
    assert sorted(uris) == sorted(f"{odd.images}/{name}" for name in [*ODD_NAMES, "link.png"])
    assert len(odd.sql("SELECT * FROM tiles")) == 2 * len(uris)


def test_loops_of_links_are_not_walked(odd: Survey) -> None:
    names = odd.sql(
        "SELECT regexp_extract(image_uri, '[^/]+$') AS name FROM images WHERE status = 'passed over' ORDER BY 1"
    )
    assert [row["name"] for row in names] == ["loop", "nowhere.png", "self.png"]


def test_the_bundle_is_copied_and_the_run_says_what_it_did(odd: Survey) -> None:
    assert json.loads((odd.out / "models" / f"{odd.bundle.model_id}.json").read_text())["calibration"]
    (run,) = (odd.out / "runs").iterdir()
    record = json.loads(run.read_text())
    summary = record["summary"]
    assert (record["model_id"], record["tiling_id"]) == (odd.bundle.model_id, "32-32-shift")
    images = len(ODD_NAMES) + 1
    counts = {name: summary[name] for name in ("images", "scored", "failed", "tiles")}
    assert counts == {"images": images, "scored": images, "failed": 0, "tiles": 2 * images}
    assert summary["object_bytes"] == sum(path.stat().st_size for path in odd.out.rglob("tiles/*/*/*/*.parquet"))
    assert 0 < summary["scoring_seconds"] <= summary["seconds"] + 0.1


def test_every_picture_is_accounted_for(survey: Survey, capsys: pytest.CaptureFixture[str]) -> None:
    """On the terminal, in the file of the run, in the ledger and on the page."""
    survey.add("a.png")
    survey.add("b.bmp")
    survey.add("c.png")
    (survey.images / "bad.jpg").write_text("no image")
    (survey.images / "d.HEIC").write_bytes(b"x")
    (survey.images / "gone.jpg").symlink_to("missing.jpg")
    pages = [Image.fromarray(np.full((TILE, TILE, 3), 60 * i, np.uint8)) for i in (1, 2, 3)]
    pages[0].save(survey.images / "pages.tif", save_all=True, append_images=pages[1:])
    survey.score(dry_run=True)
    output = capsys.readouterr().out
    assert "5 images, 0 done, 5 to score, 2 more pictures passed over" in output
    assert "2 further pages of TIFFs are not scored" in output
    assert survey.score() == ExitCode.SOME_IMAGES_FAILED
    said = capsys.readouterr()
    assert "found 7 pictures: 4 scored, 1 failed, 0 done before, 0 left, 2 passed over" in said.out
    assert "2 further pages of TIFFs are not scored, only the first page of each: split such files" in said.out
    assert "warning: of TIFFs with several pages only the first page is read" in said.err
    summary = json.loads(max((survey.out / "runs").iterdir()).read_text())["summary"]
    assert summary["passed_over"] == {".heic: save as JPEG or TIFF": 1, "link: is a link to nothing": 1}
    assert summary["more_pages"] == 2
    counts = {row["status"]: row["n"] for row in survey.sql("SELECT status, count(*) AS n FROM images GROUP BY 1")}
    assert counts == {"scored": 4, "failed": 1, "passed over": 2}
    assert survey.sql("SELECT pages FROM images WHERE pages > 1") == [{"pages": 3}]
    page = survey.out.parent / "page.html"
    assert report(ReportConfig(scores=str(survey.out), survey="survey", out=str(page))) == ExitCode.DONE
    text = page.read_text()
    assert "1 picture passed over (.heic: save as JPEG or TIFF)" in text
    assert "2 further pages of 1 TIFF: only a first page is scored" in text
    # Once is enough.
    survey.add("e.png")
    survey.score()
    rows = read_ledger(str(survey.out), "survey")
    assert rows["status"].to_pylist().count("passed over") == 2
    assert sorted(set(rows["run_number"].to_pylist())) == [1, 2]


def test_a_picture_that_was_passed_over_and_is_read_now(survey: Survey) -> None:
    survey.add("a.png")
    with rasterio.open(
        survey.images / "b.img", "w", driver="HFA", width=64, height=64, count=3, dtype="uint8"
    ) as image:
        image.write(np.zeros((3, 64, 64), np.uint8))
    survey.score()
    assert survey.sql("SELECT status FROM images WHERE suffix(image_uri, 'b.img')") == [{"status": "passed over"}]
    survey.score(drivers=["HFA"])
    assert survey.sql("SELECT status FROM images WHERE suffix(image_uri, 'b.img')") == [{"status": "scored"}]


def test_an_output_within_the_survey_is_not_scored(survey: Survey, capsys: pytest.CaptureFixture[str]) -> None:
    survey.add("a.png")
    survey.out = survey.images / "scores"
    survey.add("scores/picture.png")
    assert survey.score(dry_run=True) == ExitCode.DONE
    assert "survey 'survey': 1 images, 0 done, 1 to score" in capsys.readouterr().out


def test_a_survey_that_is_written_to_while_it_is_read(
    survey: Survey, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What changed once is scored as it is now; what keeps changing is given up, for this run."""
    for name in "abc":
        survey.add(f"{name}.png")
    score_images = job.score_images
    streams: list[ImageStream] = []

    def change_and_score(stream: ImageStream, *rest: Any) -> Any:
        while not stream.handed_out:  # and with them their fingerprints
            time.sleep(0.01)
        survey.add("a.png", TILE, (len(streams) + 3) * TILE)
        if not streams:
            survey.add("b.png", TILE, 3 * TILE)
        streams.append(stream)
        return score_images(stream, *rest)

    monkeypatch.setattr(job, "score_images", change_and_score)
    assert survey.score() == ExitCode.SOME_IMAGES_FAILED
    assert [stream.handed_out for stream in streams] == [3, 2, 1]
    tiles = {
        row["name"]: row["n"]
        for row in survey.sql(
            "SELECT regexp_extract(image_uri, '[^/]+$') AS name, count(*) AS n FROM tiles GROUP BY name"
        )
    }
    assert tiles == {"b.png": 3, "c.png": 2}
    assert "1 images kept changing" in capsys.readouterr().out


def test_a_pool_that_grows_scores_the_same(survey: Survey) -> None:
    for name in "abcdef":
        path = survey.add(f"{name}.png", 3 * TILE, 3 * TILE)
    assert survey.score(max_scorers=2, gpus_per_scorer=0.5) == ExitCode.DONE
    # The images are alike, so whichever scorer had one gave its tiles the scores that a scorer gives here.
    found = survey.sql(
        "SELECT y, x, count(*) AS n, count(DISTINCT score) AS different, any_value(score) AS score "
        "FROM tiles GROUP BY y, x ORDER BY y, x"
    )
    assert {(row["n"], row["different"]) for row in found} == {(6, 1)}
    pixels = np.asarray(Image.open(path)).reshape(3, TILE, 3, TILE, 3).swapaxes(1, 2).reshape(9, TILE, TILE, 3)
    here = TileScorer.from_bundle(str(survey.model), 16, "cpu", "auto").score(pixels).score
    np.testing.assert_allclose([row["score"] for row in found], here, rtol=1e-4)


def test_a_pool_that_would_shrink_is_refused(survey: Survey) -> None:
    with pytest.raises(ValueError, match="--max-scorers 1 is below --scorers 2"):
        survey.config(scorers=2, max_scorers=1)


def test_readers_prefer_the_nodes_that_are_for_them(survey: Survey, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a node has the role, tasks that read say so, and run elsewhere all the same while it cannot take them."""
    nodes = placement.ray.nodes()
    assert placement.readers() == {}
    monkeypatch.setattr(placement.ray, "nodes", lambda: [nodes[0] | {"Labels": {placement.ROLE: "reader"}}])
    assert placement.readers()["label_selector"] == {"ssvq/role": "reader"}
    survey.add("a.png")
    assert survey.score() == ExitCode.DONE
    assert 1 <= placement.node_cpus() <= (os.cpu_count() or 1)
