"""Query results with SQL and pandas. Run examples/own_photographs.py first, or name an output of `ssvq score`.

python examples/ask_results.py [SCORES]

The script reads only Parquet. It needs no model, image or cluster.
"""

import sys
from pathlib import Path

import duckdb
import pandas as pd

import ssvq


def main(root: str) -> None:
    """The same data in three ways."""
    # 1. ssvq's views know which rows are the latest. `sql` returns a pyarrow.Table.
    with ssvq.Scores(root) as scores:
        print("surveys:", scores.surveys())
        per_image: pd.DataFrame = scores.sql("""
            SELECT image_uri, count(*) AS tiles, count(*) FILTER (is_anomalous) AS anomalous, max(score) AS worst
            FROM tiles GROUP BY image_uri ORDER BY worst DESC
        """).to_pandas()
    per_image["share"] = per_image["anomalous"] / per_image["tiles"]
    print(per_image.assign(image_uri=per_image["image_uri"].map(lambda uri: Path(uri).name)).to_string(index=False))

    # 2. A stricter threshold is only a query: ssvq does not score again.
    with ssvq.Scores(root) as scores:
        strict = scores.sql("SELECT count(*) AS n FROM tiles WHERE p_value <= 0.05")["n"][0].as_py()
    print("tiles at a false alarm rate of 5 %:", strict)

    # 3. The files are plain Parquet for any tool. This query counts every stored row, of all models.
    files = f"{root}/tiles/**/*.parquet"
    print(duckdb.sql(f"SELECT survey, model_id, count(*) AS tiles FROM read_parquet('{files}') GROUP BY ALL"))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "example-output/scores")
