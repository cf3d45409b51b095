"""`ssvq experiment` on a real Ray cluster: cells that finish, fail, and are not run again; tables and pictures."""

from pathlib import Path
from typing import Any

import pytest

from ssvq.config import EvaluateConfig, ExperimentConfig, ScoreConfig
from ssvq.errors import ExitCode
from ssvq.evaluation.job import evaluate_model
from ssvq.experiments import job
from ssvq.experiments.cells import read_results
from ssvq.experiments.datasets import find_data_sets
from ssvq.experiments.grid import ROWS, make_grid
from ssvq.methods.registry import METHODS
from ssvq.model.encoders import PACKAGED
from ssvq.scores.data_set import Scores
from ssvq.scoring.job import score
from ssvq.training.job import train
from tests.support.surveys import make_survey, tiny_training

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("ray_cluster")]


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_survey(tmp_path_factory.mktemp("data") / "plates", images=20)


def settings(survey: Path, out: Path, name: str, **changes: Any) -> ExperimentConfig:
    values = {"name": name, "data": str(survey), "out": str(out), "preset": "smoke", "train": {"tile_size": "32"}}
    return ExperimentConfig.model_validate({**values, **changes})


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_experiment_goes_on_where_it_stopped(
    survey: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One method fails at first: it is recorded, the others go on, and the next run trains it alone."""
    weights = tmp_path / "alexnet.pth"
    changes = {
        "methods": ["ssad", "differnet"],
        "gammas": [0.2],
        "train": {"tile_size": "32", "flow.alexnet": str(weights)},
    }
    config = settings(survey, tmp_path / "out", "supervision", **changes)
    assert job.experiment(config) == ExitCode.SOME_IMAGES_FAILED
    said = capsys.readouterr()
    assert "1 of 2 cells are finished" in said.out
    assert "alexnet.pth is not there" in said.out
    assert "failed plates-differnet-0-0" in said.err
    cells = make_grid(config, find_data_sets(config))
    results = {row["row"]: row for row in read_results(config.out, cells)}
    assert {name: row["status"] for name, row in results.items()} == {"ssad": "ok", "differnet": "failed"}
    assert 0 <= results["ssad"]["test_auroc"] <= 1
    assert results["ssad"]["train_anomalous"] > 0
    for kind in ("png", "svg"):
        assert (tmp_path / "out" / f"supervision-plates.{kind}").stat().st_size > 1000
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "results").iterdir()}

    import torch

    from ssvq.model.alexnet import AlexNet

    torch.save(AlexNet().state_dict(), weights)
    assert job.experiment(config) == ExitCode.DONE
    again = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "results").iterdir()}
    assert [path.name.rpartition("-")[0] for path in files if files[path] != again[path]] == ["plates-differnet-0-0"]
    text = (tmp_path / "out" / "supervision.md").read_text()
    assert "| DifferNet |  |" not in text
    assert "DifferNet's features: AlexNet" in text
    assert job.experiment(config.model_copy(update={"report_only": True})) == ExitCode.DONE


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_latents_are_drawn(survey: Path, tmp_path: Path) -> None:
    config = settings(survey, tmp_path / "out", "latents", gammas=[0.2])
    assert job.experiment(config) == ExitCode.DONE
    assert (tmp_path / "out" / "latents-plates.png").stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("name", "methods"),
    [
        ("table1", ["oc-svm"]),
        pytest.param("ablation", ["a2"], marks=pytest.mark.soak),
        pytest.param("sensitivity", ["beta-0.1"], marks=pytest.mark.soak),
    ],
)
def test_other_experiments_run(survey: Path, tmp_path: Path, name: str, methods: list[str]) -> None:
    """Some rows of each: each method, and each row's settings, are tried elsewhere."""
    assert job.experiment(settings(survey, tmp_path / "out", name, methods=methods)) == ExitCode.DONE
    shown = [row.label for row in ROWS[name] if row.name in methods]
    text = (tmp_path / "out" / f"{name}.md").read_text()
    assert len(shown) == len(methods)
    assert all(label in text for label in shown)


@pytest.mark.slow
@pytest.mark.timeout(600)
# Those that are left out differ from one of these in their loss alone.
@pytest.mark.parametrize(
    "method",
    [
        pytest.param(method, marks=[] if method in ("deep-sad", "differnet", "patch-knn") else pytest.mark.soak)
        for method in sorted(METHODS.keys() - {"deep-svdd", "ss-dcae", "ss-vae", "oc-svm-hybrid"})
    ],
)
def test_every_kind_of_method_is_a_bundle_that_scores_and_evaluates(survey: Path, tmp_path: Path, method: str) -> None:
    """On two workers, which are compared at every checkpoint, where it has phases: weights that are not in the loss of
    a phase must not stop them.
    """
    small: dict[str, dict[str, Any]] = {
        "kernel": {"samples": 60, "side": 8},
        "memory": {"samples": 20, "candidates": 500, "cells": 50},
        "flow": {"blocks": 2, "hidden": 16, "views": 1},
    }
    if method == "patch-knn":
        small["architecture"] = {"encoder": PACKAGED}
    workers = 2 if method in ("deep-sad", "ssad-hybrid", "differnet") else 1
    config = tiny_training(survey, tmp_path / "bundle", method=method, num_workers=workers, **small)
    assert train(config) == ExitCode.DONE
    out = str(tmp_path / "scores")
    scoring = ScoreConfig(survey=str(survey / "images"), model=str(tmp_path / "bundle"), out=out)
    assert score(scoring) == ExitCode.DONE
    (row,) = Scores(out).sql("SELECT count(*) AS tiles, count(score) AS scored FROM tiles").to_pylist()
    assert row["tiles"] == row["scored"] == 20 * 8
    labelled = {"images": str(survey / "images"), "masks": str(survey / "masks")}
    report = evaluate_model(EvaluateConfig(model=str(tmp_path / "bundle"), **labelled))
    assert 0 <= report["auroc"] <= 1
