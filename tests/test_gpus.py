"""Jobs on machines with GPUs; the GPUs are logical, see tests/support/logical_gpus.py."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssvq.scores.data_set import Scores

SCORES = "SELECT tile_id, score FROM tiles ORDER BY tile_id"
PLACES = "SELECT tile_id, row, col, x, y, width, height, valid_fraction, score FROM tiles ORDER BY tile_id"
DECODERS = "SELECT regexp_extract(image_uri, '[^/]+$') AS name, decoder FROM images"


def run(gpus: int, scenario: str, folder: Path) -> tuple[dict[str, Any], str]:
    """What each job of a scenario ended with, and what was said."""
    command = [sys.executable, "-m", "tests.support.logical_gpus", str(gpus), scenario, str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert ended.returncode == 0, ended.stderr[-4000:]
    (done,) = [line.removeprefix("DONE ") for line in ended.stdout.splitlines() if line.startswith("DONE ")]
    return json.loads(done), ended.stderr


def test_a_survey_is_scored_and_a_gpu_that_torch_does_not_see_is_told(tmp_path: Path) -> None:
    done, errors = run(1, "once", tmp_path)
    assert done == {"default": [0, 1]}
    assert errors.count("Ray gave a scorer a GPU, and it works on the CPU: ") == 1
    assert Scores(str(tmp_path / "default")).sql("SELECT count(*) AS n FROM tiles")["n"].to_pylist() == [64]


@pytest.mark.slow
def test_scorers_share_gpus_as_the_settings_say(tmp_path: Path) -> None:
    done, _ = run(2, "otherwise", tmp_path)
    grown = done.pop("grows")
    assert done == {"half": [0, 4], "one": [0, 1], "cpu": [0, 1]}
    assert grown[0] == 0
    assert 1 <= grown[1] <= 2
    scores = [Scores(str(tmp_path / name)).sql(SCORES) for name in ("half", "one", "grows", "cpu")]
    assert all(found.equals(scores[0]) for found in scores)


@pytest.mark.slow
def test_files_that_the_scorer_decodes_are_scored_as_their_pixels_are(tmp_path: Path) -> None:
    done, _ = run(1, "files", tmp_path)
    assert re.match(r"--decode gpu: there is no GPU here \(.+\); use --decode cpu", done.pop("refusal"))
    assert done == {"cpu": 3, "gpu": 3}, "one file is broken"
    cpu, gpu = (Scores(str(tmp_path / f"decoded on {name}")).sql(PLACES) for name in ("cpu", "gpu"))
    assert cpu.drop_columns(["score"]) == gpu.drop_columns(["score"])
    np.testing.assert_allclose(cpu["score"].to_numpy(), gpu["score"].to_numpy(), rtol=1e-5)
    rows = Scores(str(tmp_path / "decoded on gpu")).sql(DECODERS).to_pylist()
    assert {row["name"]: row["decoder"] for row in rows} == {
        **dict.fromkeys(("0.jpg", "1.jpg", "2.jpg", "grey.jpg"), "Pillow"),
        **dict.fromkeys(("other.png", "refused.jpg", "small.jpg"), "GDAL"),
        "broken.jpg": None,
    }


@pytest.mark.slow
@pytest.mark.parametrize("gpus", [pytest.param(1, marks=pytest.mark.soak), 2])
def test_the_other_jobs_work_too(tmp_path: Path, gpus: int) -> None:
    done, errors = run(gpus, "jobs", tmp_path)
    assert done == dict.fromkeys(("train", "evaluate", "nightly", "experiment"), 0), errors[-4000:]
