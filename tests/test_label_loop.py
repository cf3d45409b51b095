"""Labels come back: train without any, score, label the worst false alarms and misses, train again, and see more."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import shapely

from ssvq.config import EvaluateConfig, FindingsConfig, LabelConfig, Objective, ScoreConfig
from ssvq.errors import ExitCode
from ssvq.evaluation.job import evaluate_model
from ssvq.model import bundle as bundles
from ssvq.results.findings.job import findings
from ssvq.results.label import label
from ssvq.scores.data_set import Scores
from ssvq.scoring.job import score
from ssvq.training.job import train
from tests.support.images import write_image
from tests.support.surveys import TILE, tiny_training

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.cluster, pytest.mark.usefixtures("ray_cluster")]

MARKED = 10  # of each kind


def paint(root: Path, images: int, seed: int, *, welds: bool, rust: bool) -> Path:
    """Plates of 4 x 4 tiles in images/ and masks/: grey, with a rough row of welds, which is normal, and a row that is
    a little redder, which is rust.
    """
    rng = np.random.default_rng(seed)
    for i in range(images):
        pixels = rng.integers(90, 150) + rng.normal(0, 3, (4 * TILE, 4 * TILE, 3))
        mask = np.zeros((4 * TILE, 4 * TILE), np.uint8)
        if welds:
            pixels[:TILE] += rng.normal(0, 40, (TILE, 4 * TILE, 1))
        if rust:
            pixels[2 * TILE : 3 * TILE] += [12, 0, -12]
            mask[2 * TILE : 3 * TILE] = 1
        write_image(root / "images" / f"{i:02}.png", np.clip(pixels, 0, 255).astype(np.uint8))
        write_image(root / "masks" / f"{i:02}.png", mask)
    return root


@pytest.mark.soak
def test_labels_of_the_worst_tiles_raise_the_auroc_on_other_images(tmp_path: Path) -> None:
    known = paint(tmp_path / "known", 12, 0, welds=False, rust=False)
    survey = paint(tmp_path / "survey", 6, 1, welds=True, rust=True)
    other = paint(tmp_path / "other", 6, 2, welds=True, rust=True)
    training = {"steps": 120, "batch_size": 16, "validate_every": 60, "supervision": 0}
    scores, labels = str(tmp_path / "scores"), tmp_path / "labels.parquet"

    def auroc(model: Path) -> float:
        on_others = {"images": str(other / "images"), "masks": str(other / "masks")}
        return float(evaluate_model(EvaluateConfig(model=str(model), **on_others))["auroc"])

    first, second = tmp_path / "first", tmp_path / "second"
    assert train(tiny_training(known, first, **training)) == ExitCode.DONE
    run = ScoreConfig(survey=str(survey / "images"), survey_name="s", model=str(first), out=scores)
    assert score(run) == ExitCode.DONE

    # A person looks: rust is known by its row.
    rusty = f"(y = {2 * TILE})"
    for said, what in (("normal", f"NOT {rusty} ORDER BY score DESC"), ("anomalous", f"{rusty} ORDER BY score")):
        ids = Scores(scores).sql(f"SELECT tile_id FROM tiles WHERE {what} LIMIT {MARKED}")["tile_id"].to_pylist()
        (tmp_path / "ids.csv").write_text("\n".join(["tile_id", *ids]))
        settings = {"tiles": str(tmp_path / "ids.csv"), "as": said, "out": str(labels)}
        assert label(LabelConfig(scores=scores, survey="s", **settings)) == ExitCode.DONE

    assert train(tiny_training(known, second, labels=str(labels), **training)) == ExitCode.DONE
    counts = bundles.read_description(str(second)).training["counts"]
    assert (counts["labelled_normal"], counts["labelled_anomalous"], counts["train_anomalous"]) == (10, 10, 10)
    before, after = auroc(first), auroc(second)
    print(json.dumps({"before": before, "after": after}))
    assert after > before + 0.1


def test_what_people_decided_about_findings_trains_by_cell(tmp_path: Path) -> None:
    """Welds are rejected and rust is confirmed, on the page's file; the training takes the regions as labels."""
    known = paint(tmp_path / "known", 8, 0, welds=False, rust=False)
    survey = paint(tmp_path / "survey", 3, 1, welds=True, rust=True)
    training = {"steps": 20, "batch_size": 16, "validate_every": 10, "supervision": 0}
    first, scores = tmp_path / "first", tmp_path / "scores"
    assert train(tiny_training(known, first, **training)) == ExitCode.DONE
    run = ScoreConfig(survey=str(survey / "images"), survey_name="s", model=str(first), out=str(scores))
    assert score(run) == ExitCode.DONE
    assert findings(FindingsConfig(scores=str(scores), threshold=0.01)) == ExitCode.DONE
    (table,) = (scores / "findings").rglob("*.parquet")
    rows = pq.ParquetFile(table).read().to_pylist()
    assert rows
    side = 4 * TILE
    regions = {"rejected": shapely.box(0, 0, side, TILE), "confirmed": shapely.box(0, 2 * TILE, side, 2.5 * TILE)}
    keys = ("image_id", "fingerprint")
    images = {tuple(row[name] for name in keys): row["finding_id"] for row in rows}
    decisions = [
        {"finding_id": f"{finding} {state}", **dict(zip(keys, image, strict=True)), "state": state, "decided_by": "Ada"}
        | {"decided_at": "2026-01-01T00:00:00Z", "outline": shapely.to_wkt(region)}
        for image, finding in images.items()
        for state, region in regions.items()
    ]
    page = {name: rows[0][name] for name in ("survey", "model_id", "tiling_id")} | {"decisions": decisions}
    (tmp_path / "page.json").write_text(json.dumps(page))
    table.unlink()  # then no tile is known to be normal as a whole
    settings = {"from": str(tmp_path / "page.json"), "out": str(tmp_path / "labels.parquet")}
    assert label(LabelConfig(scores=str(scores), **settings)) == ExitCode.DONE

    def counts(labels: str) -> tuple[int, int]:
        out = tmp_path / labels
        objective = Objective(labels=labels)
        config = tiny_training(known, out, labels=str(tmp_path / "labels.parquet"), objective=objective, **training)
        assert train(config) == ExitCode.DONE
        found = bundles.read_description(str(out)).training["counts"]
        return found["labelled_normal"], found["labelled_anomalous"]

    tiles = 4 * len(images)  # in each row of tiles
    assert counts("cell") == (tiles, tiles)
    assert counts("tile") == (0, tiles), "half of each tile is anomalous, and no tile is normal as a whole"
