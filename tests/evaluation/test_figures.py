"""Figures over tables of tiles: what is counted, against what, and what is left out."""

import math

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from ssvq.evaluation.collect import groups_of
from ssvq.evaluation.figures import clear_tiles, defect_figures, tile_figures
from ssvq.model.bootstrap import paired_auroc_difference
from tests.support.tables import calibration, tile_table

RESAMPLES = 200


def test_figures_of_tiles() -> None:
    tiles = tile_table()
    anomalous, scores = tiles["anomalous"].to_numpy(), tiles["score"].to_numpy()
    figures = tile_figures(tiles, calibration(), RESAMPLES, seed=0)
    assert figures["auroc"] == pytest.approx(roc_auc_score(anomalous, scores))
    assert figures["average_precision"] == pytest.approx(average_precision_score(anomalous, scores))
    assert figures["colour_threshold_auroc"] == pytest.approx(roc_auc_score(anomalous, tiles["redness"].to_numpy()))
    for name in ("auroc", "average_precision"):
        low, high = figures["intervals"][name]
        assert low < figures[name] < high
    assert (figures["tiles"], figures["anomalous_tiles"]) == (len(tiles), anomalous.sum())
    cells = ("true_normal", "false_anomalous", "missed_anomalous", "true_anomalous")
    assert sum(figures[name] for name in cells) == len(tiles)


def test_the_model_is_compared_with_each_colour_on_the_same_resamples() -> None:
    tiles = tile_table()
    references = tile_figures(tiles, calibration(), RESAMPLES, seed=5)["references"]
    for name in ("redness", "redness_p90"):
        paired = paired_auroc_difference(
            groups_of(tiles),
            tiles["anomalous"].to_numpy(),
            tiles["score"].to_numpy(),
            tiles[name].to_numpy(),
            RESAMPLES,
            seed=5,
        )
        assert references[name]["difference"] == pytest.approx(paired.value)
        assert references[name]["difference_interval"] == pytest.approx([paired.interval.low, paired.interval.high])
        low, high = references[name]["interval"]
        assert low < references[name]["auroc"] < high


def test_false_positive_rates_are_of_the_normal_tiles_at_the_calibrations_thresholds() -> None:
    tiles, calibrated = tile_table(), calibration()
    rates = tile_figures(tiles, calibrated, RESAMPLES, seed=0)["false_positive_rates"]
    assert list(rates) == ["0.01", "0.05"]
    normal = tiles["score"].to_numpy()[~tiles["anomalous"].to_numpy()]
    for rate, found in rates.items():
        assert found["threshold"] == calibrated.thresholds_at_false_positive_rate[rate]
        assert found["rate"] == pytest.approx((normal >= found["threshold"]).mean())
        assert found["interval"][0] <= found["rate"] <= found["interval"][1]
    assert rates["0.01"]["rate"] < rates["0.05"]["rate"]


def test_intervals_are_over_groups_where_images_have_one() -> None:
    apart = tile_table(images=40, each=9)
    together = tile_table(images=40, each=9, group=[f"part {i // 60}" for i in range(360)])
    assert len(set(groups_of(apart))) == 40
    assert len(set(groups_of(together))) == 6
    one = tile_table(group=["the only part"] * 360)
    assert math.isnan(tile_figures(one, calibration(), RESAMPLES, seed=0)["intervals"]["auroc"][0])


def test_a_class_that_is_missing_gives_no_figure() -> None:
    tiles = tile_table(anomalous=[False] * 360)
    figures = tile_figures(tiles, calibration(), RESAMPLES, seed=0)
    assert math.isnan(figures["auroc"])
    assert math.isnan(figures["intervals"]["auroc"][0])
    assert math.isnan(figures["references"]["redness"]["difference"])
    assert figures["false_positive_rates"]["0.05"]["interval"][0] > 0


def test_each_defect_is_held_against_all_normal_tiles() -> None:
    tiles = tile_table()
    found = defect_figures(tiles, RESAMPLES, seed=0)
    assert found is not None
    assert list(found) == ["crack", "stain"]
    anomalous, scores = tiles["anomalous"].to_numpy(), tiles["score"].to_numpy()
    defects = np.array(tiles["defect"].to_pylist())
    for name, figures in found.items():
        chosen = ~anomalous | (defects == name)
        assert figures["tiles"] == (anomalous & (defects == name)).sum()
        assert figures["auroc"] == pytest.approx(roc_auc_score(anomalous[chosen], scores[chosen]))
        assert figures["interval"][0] < figures["auroc"] < figures["interval"][1]


@pytest.mark.parametrize("defect", ["crack", None])
def test_one_defect_has_no_table(defect: str | None) -> None:
    assert defect_figures(tile_table(defect=[defect] * 360), RESAMPLES, seed=0) is None


def test_clear_tiles_leave_out_what_lies_between_normal_and_anomalous() -> None:
    fractions = [0.0, 0.1, 0.2, 0.3, 0.5, 0.9]
    tiles = tile_table(images=1, each=6, anomalous_fraction=pa.array(fractions, pa.float32())).set_column(
        7, "anomalous", pa.array([fraction >= 0.5 for fraction in fractions])
    )
    kept = clear_tiles(tiles, 0.1)["anomalous_fraction"].to_pylist()
    assert kept == pytest.approx([0.0, 0.1, 0.5, 0.9])
    assert len(clear_tiles(tiles, 0.0)) == 3
