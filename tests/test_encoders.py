"""A pretrained encoder all the way: trained on a cluster, scored, evaluated and drawn, with cells of its own side."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from ssvq.config import Architecture, EvaluateConfig, OverlayConfig, ScoreConfig
from ssvq.errors import ExitCode, InputError
from ssvq.evaluation.job import evaluate_model
from ssvq.methods.build import load_method
from ssvq.model import bundle as bundles
from ssvq.model.encoders import PACKAGED
from ssvq.results.pictures.overlay import overlay
from ssvq.scoring.job import score
from ssvq.training.job import train
from tests.support.surveys import make_survey, tiny_training

pytestmark = pytest.mark.usefixtures("ray_cluster")
SMALL = Architecture(encoder=PACKAGED, projection=16, dimensions=8, codes=16)


def test_a_pretrained_encoder_all_the_way(tmp_path: Path) -> None:
    survey = make_survey(tmp_path / "survey", images=8, height=128, width=256)
    config = tiny_training(survey, tmp_path / "model", architecture=SMALL, tile_size=128, steps=30, validate_every=30)
    assert train(config) == ExitCode.DONE
    bundle = bundles.read_description(str(tmp_path / "model"))
    assert bundle.preprocessing.cell == 16
    assert bundle.preprocessing.mean == (0.5, 0.5, 0.5)
    assert bundle.backbone is not None
    assert (bundle.backbone.name, bundle.backbone.licence) == (PACKAGED, "apache-2.0")
    assert bundle.settings["objective"]["labels"] == "cell"
    assert bundle.calibration.worst is not None
    assert not (tmp_path / "model" / "starting-weights.safetensors").exists()
    assert load_method(str(tmp_path / "model"), bundle).backbone is not None

    scores = str(tmp_path / "scores")
    scoring = ScoreConfig(survey=str(survey / "images"), model=str(tmp_path / "model"), out=scores)
    assert score(scoring) == ExitCode.DONE
    tiles = pq.read_table(Path(scores, "tiles"))
    assert {len(heat) for heat in tiles["score_map"].to_pylist()} == {8}  # 128 pixels, 16 a cell
    assert tiles["score_worst"].null_count == 0
    column = bundle.calibration.decides
    limit = bundle.calibration.deciding.threshold
    assert tiles["is_anomalous"].to_pylist() == [value >= limit for value in tiles[column].to_pylist()]

    report = evaluate_model(
        EvaluateConfig(
            model=str(tmp_path / "model"), images=str(survey / "images"), masks=str(survey / "masks"), bootstrap=0
        )
    )
    assert report["decided_by"] == column
    assert report["auroc"] == report["auroc_by_column"][column] > 0.9
    assert report["pixel_auroc"] > 0.9
    picture = tmp_path / "overlay.png"
    assert overlay(OverlayConfig(scores=scores, image="01.png", out=picture)) == ExitCode.DONE
    assert picture.stat().st_size > 1000


@pytest.mark.slow
def test_a_training_that_was_cut_short_goes_on_with_the_same_weights(tmp_path: Path) -> None:
    survey = make_survey(tmp_path / "survey", images=8, height=128, width=128)
    config = tiny_training(survey, tmp_path / "model", architecture=SMALL, tile_size=128, steps=4)
    (tmp_path / "model").mkdir()
    assert train(config) == ExitCode.DONE
    assert json.loads((tmp_path / "model" / "config.json").read_text())["architecture"]["encoder"] == PACKAGED
    assert train(config) == ExitCode.DONE  # finished: nothing to do


@pytest.mark.parametrize(
    ("architecture", "tile_size", "expected"),
    [
        ({"encoder": "efficientnet_lite0x"}, 128, "timm has no such network"),
        ({"encoder": PACKAGED, "levels": [7]}, 128, "has the levels 0 to 4"),
        ({"encoder": PACKAGED}, 120, "--tile-size 120 is not a multiple of the cell"),
        ({"encoder": PACKAGED, "weights": "/none.safetensors"}, 128, "/none.safetensors is not there"),
    ],
)
def test_what_cannot_work_is_said_before_any_work(
    tmp_path: Path, architecture: dict[str, object], tile_size: int, expected: str
) -> None:
    survey = make_survey(tmp_path / "survey", images=4)
    config = tiny_training(survey, tmp_path / "model", architecture=architecture, tile_size=tile_size)
    with pytest.raises(InputError) as raised:
        train(config)
    assert expected in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "model" / "tile-cache").exists()
