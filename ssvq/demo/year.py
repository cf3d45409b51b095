"""The last chapter of the demo: takes some photographs again a year later, and measures what has grown."""

import json
import sys
from pathlib import Path

import pyarrow as pa

from ssvq.demo.synthetic import write_later
from ssvq.results.answer import write_answer
from ssvq.results.findings.job import findings
from ssvq.results.findings.settings import FindingsConfig
from ssvq.scores.data_set import Scores

SURVEY, LATER = "demo", "demo-later"
SAME_STEEL = r"steel_\d+"  # the common part of the names of photographs of one piece of steel
GROWN = "grown.json"  # beside the images: by name, area of the drawn rust divided by that of the year before

BY_IMAGE = """
SELECT regexp_extract(image_uri, '([^/]+)[.]', 1) AS image, list_sort(list(DISTINCT change)) AS changes,
       sum(coalesce(previous_area * growth, area_pixels)) AS now, sum(previous_area) AS before
FROM (SELECT * FROM findings UNION ALL BY NAME SELECT * FROM gone)
WHERE survey = $1 AND change IS NOT NULL GROUP BY image ORDER BY image
"""


def make_later(folder: Path, seed: int, photographs: int) -> None:
    """Draw the photographs of a year later, unless they are complete already."""
    recipe = {"seed": seed, "photographs": photographs}
    file = folder / GROWN
    if file.exists() and json.loads(file.read_text())["recipe"] == recipe:
        print(f"{folder} is there already")
        return
    grown = write_later(folder, seed=seed, photographs=photographs)
    file.write_text(json.dumps({"recipe": recipe, "grown": grown}))
    print(f"{folder}: {len(grown)} images")


def compare_later(folder: Path, scores: Path) -> None:
    """Compare the findings of both years, and print the measured growth beside the drawn one."""
    findings(FindingsConfig(scores=str(scores), survey=LATER, previous=SURVEY, pair_pattern=SAME_STEEL))
    drawn = json.loads((folder / GROWN).read_text())["grown"]
    with Scores(str(scores)) as known:
        rows = known.sql(BY_IMAGE, [LATER]).to_pylist()
    told = [
        {
            "image": row["image"],
            "changes": ", ".join(row["changes"]),
            "growth_found": _percent(row["now"] / row["before"] if row["before"] else float("inf")),
            "growth_drawn": _percent(drawn[row["image"]]),
        }
        for row in rows
    ]
    write_answer(pa.Table.from_pylist(told), "table", sys.stdout.buffer)


def _percent(growth: float) -> str:
    return "from nothing" if growth == float("inf") else f"{growth - 1:+.0%}".replace("%", " %")
