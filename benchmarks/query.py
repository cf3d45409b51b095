"""How fast results are asked: `ssvq query` on a published survey, on its small objects, DuckDB on these, and pandas.

    python -m benchmarks.query --out /tmp/query

Score maps of --images images with --tiles tiles each are made once, with 32x32 cells, as those of 512-pixel tiles have.
Each query runs in this process after one that warms the file cache; times are medians of --repeats, without the start
of Python.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import numpy as np
import pandas
import pyarrow as pa

from ssvq.config import PublishConfig
from ssvq.io import parquet, storage
from ssvq.results.publish import publish
from ssvq.scores.data_set import Scores
from ssvq.scores.layout import Partition
from ssvq.scores.ledger import LedgerWriter
from ssvq.scores.ledger_row import LedgerRow
from ssvq.scores.schema import SCORE_MAP

SURVEY, MODEL, TILING = "survey", "0" * 16, "512-512-shift"
IMAGE = "i04321"
QUERIES = {
    "count by survey": "SELECT survey, count(*) AS tiles FROM {tiles} GROUP BY survey",
    "worst 100 tiles": "SELECT image_uri, tile_id, score FROM {tiles} ORDER BY score DESC LIMIT 100",
    "all tiles of an image": f"SELECT * FROM {{tiles}} WHERE image_id = '{IMAGE}'",
}


def main() -> None:
    """Make the score maps where they are missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the score maps, some GB")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--tiles", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    out = str(arguments.out)
    partition = Partition(out, SURVEY, MODEL, TILING)
    if not Path(partition.tiles).exists():
        make_score_maps(partition, arguments.images, arguments.tiles)
    Path(partition.published).unlink(missing_ok=True)
    raw = f"read_parquet('{partition.tiles}/*.parquet')"
    rows = [
        ("`ssvq query` on the small objects", lambda sql: Scores(out).sql(sql.format(tiles="tiles")).num_rows),
        ("DuckDB on the small objects", lambda sql: len(duckdb.execute(sql.format(tiles=raw)).fetchall())),
    ]
    print(f"{arguments.images * arguments.tiles:,} tiles in {arguments.images:,} objects\n")
    print("| what | " + " | ".join(QUERIES) + " |\n|---|" + "---|" * len(QUERIES))
    for name, ask in rows:
        show(name, ask, 1)
    show("pandas on the small objects", lambda sql: ask_pandas(partition.tiles, sql), 1)
    started = time.perf_counter()
    publish(PublishConfig(scores=out, survey=SURVEY))
    published = time.perf_counter() - started
    size = Path(partition.published).stat().st_size
    show("`ssvq query` on the published file", rows[0][1], arguments.repeats)
    print(f"\n`ssvq publish`: {published:.0f} s, {size / 1e6:.0f} MB")


def make_score_maps(partition: Partition, images: int, tiles: int) -> None:
    """Objects and ledger as scoring leaves them. The maps are smooth, as those of photographs are."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 1, 32)[:, None] + np.linspace(0, 1, 32)
    now = datetime.now(UTC)
    with LedgerWriter(partition.out, "run") as ledger:
        for i in range(images):
            name = f"i{i:05}"
            scores = rng.gamma(4, 100, tiles).astype(np.float32)
            maps = (scores[:, None, None] / 128 * (ramp + rng.integers(0, 8, (tiles, 32, 32)) / 64)).astype(np.float16)
            columns = {
                "survey": [SURVEY] * tiles,
                "image_uri": [f"s3://bucket/survey/{name}.jpg"] * tiles,
                "image_id": [name] * tiles,
                "fingerprint": [f"{i}"] * tiles,
                "model_id": [MODEL] * tiles,
                "tiling_id": [TILING] * tiles,
                "run_id": ["run"] * tiles,
                "tile_id": [f"{name}-{t // 10}-{t % 10}" for t in range(tiles)],
                "score": scores,
                "p_value": 1 / (1 + scores.astype(np.float64)),
                "is_anomalous": scores > 800,
                "score_map": pa.FixedSizeListArray.from_arrays(
                    pa.FixedSizeListArray.from_arrays(pa.array(maps.ravel()), 32), 32
                ),
            }
            arrays = [
                pa.array(columns[f.name]).cast(f.type) if f.name in columns else pa.nulls(tiles, f.type)
                for f in SCORE_MAP
            ]
            info = storage.put(partition.score_map(name), parquet.encode(pa.table(arrays, schema=SCORE_MAP)))
            ledger.add(
                LedgerRow(
                    survey=SURVEY,
                    image_uri=f"s3://bucket/survey/{name}.jpg",
                    image_id=name,
                    fingerprint=f"{i}",
                    model_id=MODEL,
                    tiling_id=TILING,
                    run_id="run",
                    recorded_at=now,
                    status="scored",
                    tiles=tiles,
                    object_version=info.version,
                )
            )


def ask_pandas(folder: str, sql: str) -> int:
    """The same answers with pandas, reading no more columns than they need."""
    if "count" in sql:
        return len(pandas.read_parquet(folder, columns=["survey"]).groupby("survey").size())
    if "ORDER BY" in sql:
        return len(pandas.read_parquet(folder, columns=["image_uri", "tile_id", "score"]).nlargest(100, "score"))
    return len(pandas.read_parquet(folder, filters=[("image_id", "==", IMAGE)]))


def show(name: str, ask: Callable[[str], int], repeats: int) -> None:
    """A line of the table, in seconds."""
    medians = []
    for sql in QUERIES.values():
        ask(sql)
        times = []
        for _ in range(repeats):
            started = time.perf_counter()
            ask(sql)
            times.append(time.perf_counter() - started)
        medians.append(f"{statistics.median(times):.2f} s")
    print(f"| {name} | {' | '.join(medians)} |", flush=True)


if __name__ == "__main__":
    main()
