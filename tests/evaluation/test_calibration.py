"""What the calibration promises: at most so many false alarms, on tiles that it has not seen."""

import numpy as np
import pytest
import torch

from ssvq.inference.scorer import TileScorer
from ssvq.methods.build import build_method
from ssvq.model.calibration import calibrate
from ssvq.model.description import Preprocessing
from tests.support.surveys import TILE, TINY, paint


@pytest.mark.parametrize("tiles", [30, 99, 400])
@pytest.mark.parametrize("rate", [0.01, 0.05, 0.2])
def test_the_rate_holds_over_many_calibrations(tiles: int, rate: float) -> None:
    """Conformal p-values (Vovk et al. 2005): over draws of both, P(p <= rate) is at most the rate."""
    rng = np.random.default_rng(0)
    alarms = []
    for _ in range(400):
        calibration = calibrate(rng.gamma(2, size=tiles), np.zeros(tiles, bool))
        alarms.append(np.mean(calibration.p_values(rng.gamma(2, size=200)) <= rate))
    error = 3 * np.std(alarms) / np.sqrt(len(alarms))
    assert np.mean(alarms) <= rate + error
    if tiles * rate > 5:
        assert np.mean(alarms) >= rate - 1 / tiles - error, "and not far less, or anomalies would be missed"


def test_the_rate_holds_for_synthetic_tiles() -> None:
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    settings = {
        "architecture": TINY.model_dump(mode="json"),
        "objective": {"name": "bounded"},
        "codebook": {"decay": 0.9},
    }
    preprocessing = Preprocessing(tile_size=TILE, mean=(0.4, 0.4, 0.4), std=(0.2, 0.2, 0.2))
    scorer = TileScorer(build_method("ss-vq-vae", settings), preprocessing, 50, torch.device("cpu"), "fp32")
    tiles = np.stack([paint(rng, TILE, TILE, rough=False)[0] for _ in range(1500)])
    scores = scorer.score(tiles).score
    calibration = calibrate(scores[:500], np.zeros(500, bool))
    for name, threshold in calibration.thresholds_at_false_positive_rate.items():
        alarms = scores[500:] >= threshold
        np.testing.assert_array_equal(alarms, calibration.p_values(scores[500:]) <= float(name))
        spread = 3 * np.sqrt(float(name) * (1 / 500 + 1 / 1000))
        assert alarms.mean() == pytest.approx(float(name), abs=spread)
