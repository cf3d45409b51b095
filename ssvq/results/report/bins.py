"""Scores in bins: the page needs only these counts to move its threshold."""

import math
from dataclasses import dataclass
from typing import Any

import duckdb

NUMBER = 512
FARTHEST = 0.999  # share of the tiles that the bins surely cover; the last bin takes the rest


@dataclass(frozen=True)
class Bins:
    """Bin i holds scores from low + i x width; the model's threshold is the edge of bin `at`, exactly.

    `tiles` and `normal` are the counts of the survey's tiles and of the model's normal calibration tiles.
    """

    low: float
    width: float
    at: int
    threshold: float
    tiles: list[int]
    normal: list[int]

    def index(self, score: float) -> int:
        """The bin of a score."""
        return _index(score, self.low, self.width, self.at, self.threshold, len(self.tiles))


def choose_bins(
    connection: duckdb.DuckDBPyConnection, threshold: float | None, calibration: dict[str, Any]
) -> Bins | None:
    """Bins for the scores of the table `scored` and of a calibration; None without a score or a threshold."""
    normal = [float(score) for score in calibration.get("normal_scores", []) if math.isfinite(score)]
    sql = f"SELECT min(score), quantile_cont(score, {FARTHEST}), max(score) FROM scored"
    least, most, highest = connection.execute(sql).fetchall()[0]
    if least is None or threshold is None:
        return None
    low = min([0.0, float(least), threshold, *normal])
    high = max([min(float(most) * 1.05, float(highest)), threshold + 0.25 * (threshold - low), *normal])
    at = max(0, round(NUMBER * (threshold - low) / (high - low))) if high > low else 0
    width = (threshold - low) / at if at else (high - low) / NUMBER or 1.0
    number = max(at + 1, math.ceil((high - low) / width))
    counts, of_normal = [0] * number, [0] * number
    for score in normal:
        of_normal[_index(score, low, width, at, threshold, number)] += 1
    rows = connection.execute(
        """
        SELECT least(greatest(CASE WHEN score >= $threshold THEN greatest(i, $at) ELSE least(i, $at - 1) END, 0),
                     $number - 1) AS bin, count(*)
        FROM (SELECT score, floor((score::DOUBLE - $low) / $width)::BIGINT AS i FROM scored) GROUP BY bin
        """,
        {"low": low, "width": width, "at": at, "threshold": threshold, "number": number},
    ).fetchall()
    for bin_, count in rows:
        counts[bin_] = count
    return Bins(low, width, at, threshold, counts, of_normal)


def _index(score: float, low: float, width: float, at: int, threshold: float, number: int) -> int:
    """The bin of a score. Rounding must not carry it over the threshold, which decides what is anomalous."""
    index = math.floor((score - low) / width)
    index = max(index, at) if score >= threshold else min(index, at - 1)
    return min(max(index, 0), number - 1)
