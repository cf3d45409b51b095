"""Runs the cells of a grid: each is a Ray task that trains, tests and writes one row of results."""

import contextlib
import io
import json
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray

from ssvq import logs
from ssvq.errors import InputError, failure_of
from ssvq.experiments.grid import Cell
from ssvq.io import parquet, storage
from ssvq.methods.settings import Flow
from ssvq.model import bundle as bundles
from ssvq.model.metrics import auroc
from ssvq.progress import Progress
from ssvq.runtime.placement import anywhere, gpus_for
from ssvq.training.held_out import HELD_OUT
from ssvq.training.job import train
from ssvq.training.splits import TEST, VALIDATION

RESULTS, LOG = "results", "log.txt"
COLOURS = {"colour, mean": "redness", "colour, 90th percentile": "redness_p90"}
"""The colour thresholds in every table: columns of the held-out tiles."""

SCHEMA = pa.schema(
    [
        ("cell", pa.string()),
        ("data", pa.string()),
        ("row", pa.string()),
        ("gamma", pa.float64()),
        ("seed", pa.int32()),
        ("steps", pa.int64()),
        ("status", pa.string()),
        ("error", pa.string()),
        ("seconds", pa.float64()),
        ("test_auroc", pa.float64()),
        ("validation_auroc", pa.float64()),
        *((f"{column}_auroc", pa.float64()) for column in COLOURS.values()),
        ("test_tiles", pa.int64()),
        ("test_anomalous", pa.int64()),
        ("test_images", pa.int64()),
        ("train_normal", pa.int64()),
        ("train_anomalous", pa.int64()),
        ("model_id", pa.string()),
        ("features", pa.string()),
        ("settings", pa.string()),
    ]
)
"""A row for each cell. `row`: the row it was run for. `status`: ok or failed. `features`: DifferNet's extractor.
`settings`: JSON.
"""


def run_cells(cells: list[Cell], out: str, parallel: int | None) -> list[dict[str, Any]]:
    """Run unfinished cells, each name once, and return the results of all cells.

    A failed cell is recorded with its error, and the others continue; the next call tries it again.
    """
    results = {row["cell"]: row for row in read_results(out, cells) if row["status"] == "ok"}
    to_do = {cell.name: cell for cell in cells if cell.name not in results}
    with Progress("experiment", len(results) + len(to_do), "cells") as progress:
        progress.begin_at(len(results))
        for result in _in_parallel(list(to_do.values()), parallel):
            name = result["cell"]
            parquet.put(_address(out, name), pa.Table.from_pylist([result], SCHEMA))
            results[name] = result
            if result["status"] != "ok":
                logs.warning(f"failed {name}: {result['error']}", cell=name)
            outcome = "failed" if result["test_auroc"] is None else f"AUROC {result['test_auroc']:.3f}"
            progress.advance(1, f"{name}: {outcome}")
    return [results[cell.name] | {"row": cell.row.name} for cell in cells]


def read_results(out: str, cells: list[Cell]) -> list[dict[str, Any]]:
    """The existing results of these cells."""
    found = []
    for cell in cells:
        with contextlib.suppress(FileNotFoundError):
            (result,) = parquet.read(_address(out, cell.name), schema=SCHEMA, optional=SCHEMA.names).to_pylist()
            found.append(result | {"row": cell.row.name})
    return found


def test_tiles(cell: Cell) -> pa.Table:
    """The test tiles of a finished cell with their scores (see `held_out_table`)."""
    table = parquet.read(storage.join(cell.config.out, HELD_OUT))
    return table.filter(pc.equal(table["split"], TEST))


def _address(out: str, cell: str) -> str:
    return storage.join(out, RESULTS, f"{cell}.parquet")


def _in_parallel(cells: list[Cell], parallel: int | None) -> Iterator[dict[str, Any]]:
    """Results as they come. A cell's task needs no resources; Ray Train places the workers that train in it."""
    if not cells:
        return
    at_once = parallel or max(1, gpus_for(cells[0].config.device))
    waiting = iter(cells)
    running: dict[ray.ObjectRef, Cell] = {}
    while True:
        for cell in islice(waiting, at_once - len(running)):
            running[_run_cell.options(**anywhere()).remote(cell)] = cell
        if not running:
            return
        (done,), _ = ray.wait(list(running), num_returns=1)
        cell = running.pop(done)
        try:
            yield ray.get(done)
        except ray.exceptions.RayError as error:  # its process died
            yield _failed(cell, failure_of(error), None)


@ray.remote(num_cpus=0, max_retries=0)
def _run_cell(cell: Cell) -> dict[str, Any]:
    """Train and test a cell, with its output in its log."""
    started = time.monotonic()
    with io.StringIO() as talk:
        try:
            with contextlib.redirect_stdout(talk), contextlib.redirect_stderr(talk):
                train(cell.config)
            return _measured(cell, time.monotonic() - started)
        except InputError as error:
            return _failed(cell, str(error), time.monotonic() - started)
        except Exception as error:  # noqa: BLE001 - a cell that fails must not end the others
            return _failed(cell, failure_of(error), time.monotonic() - started)
        finally:
            storage.put_text(storage.join(cell.config.out, LOG), talk.getvalue())


def _known(cell: Cell) -> dict[str, Any]:
    return {
        "cell": cell.name,
        "data": cell.data.name,
        "row": cell.row.name,
        "gamma": cell.gamma,
        "seed": cell.seed,
        "steps": cell.config.steps,
        "settings": json.dumps(cell.config.saved()),
    }


def _failed(cell: Cell, error: str, seconds: float | None) -> dict[str, Any]:
    empty: dict[str, Any] = dict.fromkeys(SCHEMA.names)
    return empty | _known(cell) | {"status": "failed", "error": error, "seconds": seconds}


def _measured(cell: Cell, seconds: float) -> dict[str, Any]:
    bundle, tiles = bundles.read_description(cell.config.out), test_tiles(cell)
    anomalous, counts = tiles["anomalous"].to_numpy(), bundle.training["counts"]
    flow = bundle.settings.get("flow")
    return (
        _known(cell)
        | {f"{column}_auroc": auroc(tiles[column].to_numpy(), anomalous) for column in COLOURS.values()}
        | {
            "status": "ok",
            "error": None,
            "seconds": seconds,
            **{f"{split}_auroc": bundle.metrics[f"{split}_auroc"] for split in (TEST, VALIDATION)},
            "test_tiles": len(tiles),
            "test_anomalous": int(anomalous.sum()),
            "test_images": len(set(tiles["path"].to_pylist())),
            "train_normal": counts["train_normal"],
            "train_anomalous": counts["train_anomalous"],
            "model_id": bundle.model_id,
            "features": None if flow is None else Flow(**flow).extractor,
        }
    )
