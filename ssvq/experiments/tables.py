"""Tables of an experiment, as Markdown."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ssvq.experiments import paper
from ssvq.experiments.cells import COLOURS, test_tiles
from ssvq.experiments.grid import Cell
from ssvq.experiments.rows import OURS, Row
from ssvq.model.bootstrap import paired_auroc_difference

Results = list[dict[str, Any]]


def at_level(results: Results, row: Row, gamma: float, data: str) -> list[float]:
    """Test AUROC of a row at a supervision level, by seed. A row without labelled anomalies has one value for all
    levels.
    """
    wanted = ("ok", row.name, data, gamma if row.uses_anomalies else 0.0)
    found = [
        result for result in results if tuple(result[name] for name in ("status", "row", "data", "gamma")) == wanted
    ]
    return [result["test_auroc"] for result in sorted(found, key=lambda result: result["seed"])]


def colour_aurocs(results: Results, column: str, data: str) -> list[float]:
    """Test AUROC of a colour threshold, once for each seed."""
    by_seed = {row["seed"]: row[f"{column}_auroc"] for row in results if row["status"] == "ok" and row["data"] == data}
    return [by_seed[seed] for seed in sorted(by_seed)]


def level_table(results: Results, rows: Sequence[Row], levels: Sequence[float], data: str) -> Iterable[str]:
    """A line for each row, a column for each supervision level; the colour thresholds below."""
    yield from _head("AUROC", [f"gamma {gamma:g}" for gamma in levels])
    for row in rows:
        yield _line(row.label, [mean_and_deviation(at_level(results, row, gamma, data)) for gamma in levels])
    for label, column in COLOURS.items():
        yield _line(label, [mean_and_deviation(colour_aurocs(results, column, data))] * len(levels))
    yield ""
    yield from _counts(results, data)


def paper_table(results: Results, rows: Sequence[Row], level: float, data_sets: Sequence[str]) -> Iterable[str]:
    """A line for each data set, a column for each row: ours, and in brackets the paper's and the difference."""
    labels = [row.label for row in rows]
    yield from _head(f"gamma {level:g}", [*labels, *COLOURS])
    for data in data_sets:
        cells = []
        for row in rows:
            figures, theirs = at_level(results, row, level, data), paper.table_1(data, row.name)
            text = mean_and_deviation(figures)
            if figures and theirs is not None:
                text += f" (paper {theirs:.2f}, {np.mean(figures) - theirs:+.2f})"
            cells.append(text)
        cells += [mean_and_deviation(colour_aurocs(results, column, data)) for column in COLOURS.values()]
        yield _line(data, cells)
    yield ""


def difference_table(cells: Sequence[Cell], results: Results, levels: Sequence[float], data: str) -> Iterable[str]:
    """ss-VQ-VAE minus each other method and the colour thresholds on the same test tiles: means over common seeds,
    with 95 % intervals over resamples of the images.
    """
    finished = {row["cell"] for row in results if row["status"] == "ok"}
    of_data = [cell for cell in cells if cell.data.name == data and cell.name in finished]
    ours = {(cell.gamma, cell.seed): test_tiles(cell) for cell in of_data if cell.row.name == OURS}
    if not ours:
        return
    others: dict[str, dict[tuple[float, int], tuple[pa.Table, str]]] = {}
    for cell in of_data:
        if cell.row.name != OURS:
            tiles = test_tiles(cell)
            for gamma in [cell.gamma] if cell.row.uses_anomalies else levels:
                others.setdefault(cell.row.label, {})[gamma, cell.seed] = (tiles, "score")
    for label, column in COLOURS.items():
        others[label] = {point: (tiles, column) for point, tiles in ours.items()}
    yield "ss-VQ-VAE less the other, on the same test tiles (95 % interval over images):\n"
    yield from _head("less", [f"gamma {gamma:g}" for gamma in levels])
    for label, other in others.items():
        differences = []
        for gamma in levels:
            seeds = [seed for level, seed in other if level == gamma and (gamma, seed) in ours]
            differences.append(_difference([(ours[gamma, seed], *other[gamma, seed]) for seed in seeds]))
        yield _line(label, differences)
    yield ""


def failure_lines(results: Results) -> Iterable[str]:
    """Failed cells, with reasons."""
    failed = [row for row in results if row["status"] != "ok"]
    if failed:
        yield "Failed, and tried again by the next run:\n"
        yield from (f"- {row['cell']}: {row['error']}" for row in failed)
        yield ""


def mean_and_deviation(figures: Sequence[float]) -> str:
    """The mean, with a standard deviation if there are several values; empty for none."""
    if not figures:
        return ""
    spread = f" ± {np.std(figures, ddof=1):.3f}" if len(figures) > 1 else ""
    return f"{np.mean(figures):.3f}{spread}"


def _difference(pairs: list[tuple[pa.Table, pa.Table, str]]) -> str:
    if not pairs:
        return ""
    estimates = [
        paired_auroc_difference(
            pc.coalesce(ours["group"], ours["path"]).to_numpy(zero_copy_only=False),
            ours["anomalous"].to_numpy(),
            ours["score"].to_numpy(),
            other[column].to_numpy(),
        )
        for ours, other, column in pairs
    ]
    value = np.mean([estimate.value for estimate in estimates])
    low, high = np.mean([(estimate.interval.low, estimate.interval.high) for estimate in estimates], axis=0)
    return f"{value:+.3f} ({low:+.3f} to {high:+.3f})"


def _counts(results: Results, data: str) -> Iterable[str]:
    trained = {row["cell"]: row for row in results if row["status"] == "ok" and row["data"] == data}
    finished = list(trained.values())
    if not finished:
        return
    by_seed = {row["seed"]: row for row in finished}
    tests = ", ".join(
        f"{row['test_tiles']} tiles ({row['test_anomalous']} anomalous) of {row['test_images']} images"
        for _, row in sorted(by_seed.items())
    )
    steps = sorted({row["steps"] for row in finished})
    seconds = sum(row["seconds"] for row in finished)
    yield (
        f"Test, by seed: {tests}. {len(finished)} trainings of {', '.join(map(str, steps))} steps, "
        f"{seconds / 60:.0f} minutes together."
    )
    features = {row["features"] for row in finished} - {None}
    if features:
        yield f"DifferNet's features: {', '.join(sorted(features))}."
    yield ""


def _head(corner: str, columns: Sequence[str]) -> Iterable[str]:
    yield _line(corner, columns)
    yield "|" + "---|" * (1 + len(columns))


def _line(first: str, cells: Iterable[str]) -> str:
    return f"| {' | '.join([first, *cells])} |"
