"""The whole way with every folder on a real S3 server."""

import json
from pathlib import Path

import pytest

from ssvq import storage
from ssvq.errors import ExitCode
from ssvq.model import bundle as bundles
from ssvq.results.query import run_sql
from tests.commands import run
from tests.s3 import s3_bucket, s3_server  # noqa: F401
from tests.surveys import BUNDLE_FILES, make_survey, tiny_training

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
    model = bundles.read_whole(bundle).model_id
    assert run_sql(scores, sql).to_pylist() == [{"model_id": model, "images": 6, "tiles": 48}]
