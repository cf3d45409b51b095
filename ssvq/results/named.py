"""The ready-made queries of `ssvq query --named`."""

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.stats import ks_2samp

from ssvq import logs
from ssvq.errors import InputError
from ssvq.results.settings import QueryConfig
from ssvq.scores.layout import model_file
from ssvq.scores.objects import read_model

QUERIES = {
    "worst-tiles": """
        SELECT survey, image_uri, tile_id, x, y, width, height, score, p_value, is_anomalous
        FROM tiles WHERE isfinite(score) ORDER BY score DESC, image_uri, tile_id LIMIT {limit}
    """,
    "by-image": """
        SELECT survey, image_uri, count(*) AS tiles, count(*) FILTER (is_anomalous) AS anomalous_tiles,
               max(score) AS worst_score, min(p_value) AS least_p_value, median(score) AS median_score
        FROM tiles WHERE isfinite(score)
        GROUP BY survey, image_uri, model_id, tiling_id ORDER BY worst_score DESC, image_uri LIMIT {limit}
    """,
    "failures": """
        SELECT survey, image_uri, error_stage, error_message, recorded_at, run_id
        FROM images WHERE status = 'failed' ORDER BY survey, image_uri
    """,
    "trend": """
        SELECT tiles.survey, tiles.model_id, images.since, images.images, count(*) AS tiles,
               count(*) FILTER (is_anomalous) / count(*) AS anomalous_share,
               median(score) AS median_score, quantile_cont(score, 0.99) AS score_99, max(score) AS worst_score
        FROM tiles JOIN (
            SELECT survey, model_id, min(coalesce(captured_at, recorded_at)) AS since,
                   count(*) FILTER (status = 'scored') AS images
            FROM images GROUP BY ALL
        ) AS images USING (survey, model_id)
        WHERE isfinite(score) GROUP BY ALL ORDER BY since, survey
    """,
    "change": """
        SELECT survey, previous_survey, change, severity, image_uri, x, y, width, height, area_pixels, previous_area,
               growth, area_m2, finding_id, previous_id
        FROM (SELECT * FROM findings UNION ALL BY NAME SELECT * FROM gone) WHERE change IS NOT NULL
        ORDER BY change = 'unchanged', abs(coalesce(previous_area * (growth - 1), area_pixels)) DESC, finding_id
        LIMIT {limit}
    """,
}
BINS = 10  # bins of the population stability index: deciles of the calibration
SHIFTED, WATCHED = 0.25, 0.1  # customary readings of the index
LEAST_SHARE = 1e-4  # least share of a bin, so that an empty one has a logarithm


def named_query(connection: duckdb.DuckDBPyConnection, config: QueryConfig) -> pa.Table:
    """The answer of a ready-made query over the views `tiles` and `images`."""
    if config.named == "drift":
        return drift(connection, config.scores)
    return connection.sql(QUERIES[str(config.named)].format(limit=config.limit)).to_arrow_table()


def drift(connection: duckdb.DuckDBPyConnection, scores: str) -> pa.Table:
    """Distance between the scores of each survey and model, and those of the model's normal calibration tiles.

    Measures are the population stability index and the Kolmogorov-Smirnov statistic. Many defects also move a survey;
    if its median moves too, it no longer looks like the training images. Then a warning is printed.
    """
    rows = []
    pairs = connection.execute("SELECT DISTINCT survey, model_id FROM tiles ORDER BY ALL").fetchall()
    for survey, model_id in pairs:
        found = connection.execute(
            "SELECT score FROM tiles WHERE survey = ? AND model_id = ? AND isfinite(score)", [survey, model_id]
        ).fetchnumpy()["score"]
        normal = calibration_scores(scores, model_id)
        if normal is None:
            logs.warning(
                f"warning: {model_file(scores, model_id)} is missing, so {survey} is not compared", survey=survey
            )
        if normal is None or not len(found) or not len(normal):
            continue
        index, statistic = stability_index(normal, found), float(ks_2samp(normal, found).statistic)
        verdict = "shifted" if index >= SHIFTED else "watch" if index >= WATCHED else "as calibrated"
        if verdict == "shifted":
            logs.warning(
                f"warning: survey {survey} does not look like the calibration images of model {model_id} (stability "
                f"index {index:.2f}, over {SHIFTED}): look at its worst tiles before you trust its thresholds",
                survey=survey,
            )
        medians = {"median_score": float(np.median(found)), "calibration_median": float(np.median(normal))}
        rows.append(
            {"survey": survey, "model_id": model_id, "tiles": len(found), "calibration_tiles": len(normal)}
            | {"stability_index": index, "kolmogorov_smirnov": statistic, **medians, "verdict": verdict}
        )
    return pa.Table.from_pylist(rows)


def calibration_scores(scores: str, model_id: str) -> NDArray[np.float64] | None:
    """Scores of a model's normal calibration tiles, ascending; None if its description is missing."""
    try:
        described = read_model(scores, model_id)
    except InputError:
        return None
    return np.asarray(described["calibration"]["normal_scores"], np.float64)


def stability_index(expected: NDArray[np.floating], found: NDArray[np.floating]) -> float:
    """Population stability index: sum of (p - q) log(p / q) over bins of equal share q of the expected values."""
    edges = np.unique(np.quantile(expected, np.linspace(0, 1, BINS + 1)[1:-1]))
    shares = [
        np.maximum(
            np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1) / len(values),
            LEAST_SHARE,
        )
        for values in (found, expected)
    ]
    return float(((shares[0] - shares[1]) * np.log(shares[0] / shares[1])).sum())
