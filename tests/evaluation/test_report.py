"""The report for people, and the picture."""

import io
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from ssvq.evaluation.figures import clear_tiles, defect_figures, tile_figures
from ssvq.evaluation.report import estimate, print_report
from ssvq.model.score_plot import draw_plot
from tests.support.tables import calibration, tile_table

NAN = float("nan")


def report(resamples: int = 50) -> dict[str, Any]:
    """A report with every section."""
    tiles = tile_table()
    return {
        **tile_figures(tiles, calibration(), resamples, seed=0),
        "decided_by": "score",
        "auroc_by_column": {"score": 0.87, "score_worst": 0.81},
        "pixel_auroc": 0.9312,
        "aupro": 0.7104,
        "regions": 212,
        "by_defect": defect_figures(tiles, resamples, seed=0),
        "clear_tiles": {
            "normal_fraction": 0.05,
            **tile_figures(clear_tiles(tiles, 0.05), calibration(), resamples, seed=0),
        },
        "images": 12,
        "failed_images": 2,
        "model_id": "0123456789abcdef",
        "whole_images": False,
        "anomalous_fraction": 0.5,
        "bootstrap": resamples,
    }


def test_all_sections(capsys: pytest.CaptureFixture[str]) -> None:
    figures = report()
    print_report(figures)
    text = capsys.readouterr().out
    for expected in (
        "Model 0123456789abcdef on 12 images (2 failed)",
        "at or over 50 % anomalous pixels",
        "Decided by score (AUROC: score 0.870, score_worst 0.810)",
        "360 tiles: ",
        f"{figures['auroc']:.3f} ({figures['intervals']['auroc'][0]:.3f} to {figures['intervals']['auroc'][1]:.3f})",
        "mean red minus blue",
        "at most 1 %",
        "Clear tiles only: normal ones have at most 5 % anomalous pixels",
        "crack",
        "Pixels, 212 anomalous regions",
        "0.931",
        "0.710",
        "95 % intervals from 50 resamples",
    ):
        assert expected in text, expected
    assert max(len(line) for line in text.splitlines()) <= 100


def test_what_does_not_exist_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    absent = {"pixel_auroc": None, "aupro": None, "regions": None, "by_defect": None, "clear_tiles": None}
    print_report({**report(resamples=0), **absent, "failed_images": 0})
    text = capsys.readouterr().out
    for unwanted in ("nan", "None", "Pixels", "defect", "Clear", "failed", " to ", "intervals"):
        assert unwanted not in text, unwanted


def test_whole_images_have_labels_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    print_report({**report(), "whole_images": True})
    assert "label of its folder or manifest" in capsys.readouterr().out


def test_names_with_brackets_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    by_defect = {"[bold]": {"tiles": 1, "auroc": 0.5, "interval": [0.4, 0.6]}}
    print_report({**report(), "by_defect": by_defect})
    assert "[bold]" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("value", "interval", "options", "text"),
    [
        (0.8123, [0.78, 0.84], {}, "0.812 (0.780 to 0.840)"),
        (0.25, [-0.5, 0.75], {"signed": True, "digits": 2}, "+0.25 (-0.50 to +0.75)"),
        (1.5, [0.5, 2.5], {"digits": 1, "unit": " %"}, "1.5 % (0.5 to 2.5)"),
        (0.8, [NAN, NAN], {}, "0.800"),
        (0.8, [], {}, "0.800"),
        (NAN, [NAN, NAN], {}, "-"),
    ],
)
def test_estimates(value: float, interval: list[float], options: dict[str, Any], text: str) -> None:
    assert estimate(value, interval, **options) == text


@pytest.mark.parametrize("anomalous", [None, False, True])
def test_the_picture_is_drawn_with_both_classes_or_one(anomalous: bool | None) -> None:
    tiles = tile_table() if anomalous is None else tile_table(anomalous=[anomalous] * 360)
    figure = draw_plot(tiles, calibration())
    histogram, _ = figure.axes
    shown = " ".join(
        text.get_text() for axes in figure.axes if axes.get_legend() for text in axes.get_legend().get_texts()
    )
    assert ("normal (" in shown) == (anomalous is not True)
    assert ("anomalous (" in shown) == (anomalous is not False)
    assert ("equal error rate of the model" in shown) == (anomalous is None)
    assert len(histogram.lines) == 2
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    buffer.seek(0)
    assert np.ptp(imread(buffer)) > 0.9


def test_the_equal_error_point_lies_on_the_curve_where_both_errors_are_the_same() -> None:
    _, curve = draw_plot(tile_table(), calibration()).axes
    (point,) = [line for line in curve.lines if line.get_marker() == "o"]
    (x,), (y,) = point.get_data()
    assert x == pytest.approx(1 - y)
    roc = next(line for line in curve.lines if str(line.get_label()).startswith("model"))
    false, true = roc.get_data()
    assert np.interp(x - 1e-9, false, true) - 1e-6 <= y <= np.interp(x + 1e-9, false, true) + 1e-6
