"""The whole way with every folder on a real S3 server."""

import json
import time
from pathlib import Path

import pytest

from ssvq.errors import ExitCode
from ssvq.io import storage
from ssvq.scores.data_set import Scores
from tests.support.bundles import read_whole
from tests.support.commands import SCORES, run, start, wait_for
from tests.support.s3 import Server, s3_bucket, s3_server  # noqa: F401
from tests.support.surveys import BUNDLE_FILES, make_bundle, make_survey, tiny_training

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_train_score_and_query_on_s3(s3_bucket: str, tmp_path: Path) -> None:  # noqa: F811
    survey = make_survey(tmp_path / "survey", images=6)
    root = storage.join(s3_bucket, "end to end")
    for path in survey.rglob("*.png"):
        storage.put(storage.join(root, path.relative_to(survey).as_posix()), path.read_bytes())
    images, masks, bundle, scores = (storage.join(root, name) for name in ("images", "masks", "bundle", "scores"))
    settings = tmp_path / "train.json"
    config = tiny_training(survey, bundle, steps=4, validate_every=2)
    settings.write_text(json.dumps(config.saved() | {"images": images, "masks": masks, "out": bundle}))

    trained = run("train", "--config", str(settings))
    assert trained.returncode == ExitCode.DONE, trained.stderr
    assert sorted(info.path for info in storage.list_files(bundle)) == BUNDLE_FILES
    for expected in ("scored 6 images", "nothing to do: all 6 images"):
        scored = run("score", "--survey", images, "--model", bundle, "--out", scores)
        assert scored.returncode == ExitCode.DONE, scored.stderr
        assert expected in scored.stdout
    sql = "SELECT model_id, count(DISTINCT image_uri) AS images, count(*) AS tiles FROM tiles GROUP BY model_id"
    model = read_whole(bundle).model_id
    assert Scores(scores).sql(sql).to_pylist() == [{"model_id": model, "images": 6, "tiles": 48}]


@pytest.mark.soak
def test_nights_on_s3(s3_bucket: str, tmp_path: Path) -> None:  # noqa: F811
    root = storage.join(s3_bucket, "nights")
    surveys, bundle, scores = (storage.join(root, name) for name in ("surveys", "bundle", "scores"))
    make_bundle(bundle)

    def upload(survey: str, images: int) -> None:
        made = make_survey(tmp_path / survey, images=images) / "images"
        for path in made.iterdir():
            storage.put(storage.join(surveys, survey, path.name), path.read_bytes())

    def night() -> str:
        ended = run("nightly", surveys, "--model", bundle, "--out", scores)
        assert ended.returncode == ExitCode.DONE, ended.stderr
        return ended.stdout

    upload("2026-11-20", 2)
    assert "scored 2 images" in night()
    assert night().strip() == f"nothing new in 1 survey of {surveys}"
    upload("2026-11-21", 3)
    summary = night()
    assert "scored 3 images" in summary
    assert summary.strip().endswith("nothing new in 1 more survey")
    sql = "SELECT survey, count(DISTINCT image_id) AS images FROM tiles GROUP BY survey ORDER BY survey"
    assert [tuple(row.values()) for row in Scores(scores).sql(sql).to_pylist()] == [
        ("2026-11-20", 2),
        ("2026-11-21", 3),
    ]
    for survey in ("2026-11-20", "2026-11-21"):
        page = storage.read_text(storage.join(scores, "reports", f"{survey}.html"))
        assert survey in page
        published = [info.path for info in storage.list_files(storage.join(scores, "published", survey))]
        assert [Path(path).suffix for path in published] == [".parquet"]


@pytest.mark.timeout(1200)
def test_scoring_waits_for_a_server_that_is_killed_and_started_again(
    s3_server: Server,  # noqa: F811
    s3_bucket: str,  # noqa: F811
    tmp_path: Path,
) -> None:
    root = storage.join(s3_bucket, "outage")
    survey = make_survey(tmp_path / "survey", images=16, height=320, width=320) / "images"
    for path in survey.iterdir():
        storage.put(storage.join(root, "survey", path.name), path.read_bytes())
    make_bundle(storage.join(root, "bundle"))
    undisturbed, hit = storage.join(root, "undisturbed"), storage.join(root, "hit")

    def arguments(out: str) -> list[str]:
        return [
            "score",
            "--survey",
            storage.join(root, "survey"),
            "--model",
            storage.join(root, "bundle"),
            "--out",
            out,
        ]

    job = start(*arguments(hit))
    wait_for(lambda: len(list(storage.list_files(storage.join(hit, "tiles")))) >= 2, seconds=300)
    with s3_server.outage(6):
        time.sleep(5)
        assert job.poll() is None, "the job neither ends nor gives up while the server is gone"
    output, errors = job.communicate()
    assert job.returncode == ExitCode.DONE, errors
    assert "scored 16 images" in output
    assert errors.count("waiting for s3://") <= 2, "a line for an outage, not for a try"

    assert run(*arguments(undisturbed)).returncode == ExitCode.DONE
    assert Scores(hit).sql(SCORES).equals(Scores(undisturbed).sql(SCORES))
    files = [[info.path for info in storage.list_files(storage.join(out, "tiles"))] for out in (hit, undisturbed)]
    assert files[0] == files[1], "no stray object under tiles/"
