"""What labels that come back gain: train, score, label the worst tiles, train again.

    python -m benchmarks.labels --data ../shared/data/corrosion --out /tmp/labels

The photographs of --data, a folder with images/ and masks/, are divided by turns into those that train, a survey, and
others that nothing is chosen by. Masks stand for the person who looks at the survey; they are not trained on. The
table says how well each model tells the tiles of the others apart; a seed draws splits, tiles, weights and batches.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import rasterio
from rasterio.windows import Window

from ssvq.config import EvaluateConfig, LabelConfig, ScoreConfig, TrainConfig
from ssvq.evaluation.job import evaluate_model
from ssvq.results.label import label
from ssvq.runtime.session import ray_session
from ssvq.scores.data_set import Scores
from ssvq.scoring.job import score
from ssvq.training.job import train

TILE = 64
PARTS = ("training", "survey", "others")


def main() -> None:
    """Run what is not there yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=450)
    parser.add_argument("--marks", type=int, nargs="+", default=[10, 100], help="tiles of each kind")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    out: Path = arguments.out
    manifests = divide(arguments.data, out)
    for path in (arguments.data / "images").iterdir():
        if path.stem in manifests["survey"]:
            (out / "survey").mkdir(exist_ok=True)
            (out / "survey" / path.name).unlink(missing_ok=True)
            (out / "survey" / path.name).symlink_to(path.resolve())
    rows: dict[str, list[float]] = {}
    with ray_session(debug=False):
        for seed in range(arguments.seeds):
            for name, report in loop(arguments, out / f"seed {seed}", seed):
                rows.setdefault(name, []).append(report["auroc"])
                print(f"seed {seed}, {name}: {report['auroc']:.3f} {report['intervals']['auroc']}", flush=True)
    (before, *_) = rows.values()
    print("\n| labels of the survey | AUROC on other photographs | change |\n|---|---|---|")
    for name, found in rows.items():
        changes = ", ".join(f"{after - without:+.3f}" for after, without in zip(found, before, strict=True))
        print(f"| {name} | {np.mean(found):.3f} ± {np.std(found, ddof=1):.3f} | {changes} |")


def loop(arguments: argparse.Namespace, folder: Path, seed: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Without a label, and with those of the worst tiles: what it is, and how the model does on the others."""
    folder.mkdir(exist_ok=True)
    yield "none", fit(folder, arguments.steps, seed, None)
    survey: dict[str, Any] = {
        "survey": str(arguments.out / "survey"),
        "model": str(folder / "model 0"),
        "out": str(folder / "scores"),
    }
    score(ScoreConfig(**survey, allow_failed_images=True))
    truth = look(folder, arguments.data / "masks")
    for marks in arguments.marks:
        labels = mark(folder, truth, marks)
        yield f"the {marks} worst of each kind", fit(folder, arguments.steps, seed, labels)


def divide(data: Path, out: Path) -> dict[str, set[str]]:
    """Put a manifest for each part; returns the stems of its images."""
    out.mkdir(parents=True, exist_ok=True)
    parts: dict[str, set[str]] = {}
    images = sorted((data / "images").iterdir())
    for turn, part in enumerate(PARTS):
        chosen = images[turn :: len(PARTS)]
        masks = [str((data / "masks" / f"{path.stem}.png").resolve()) for path in chosen]
        table = pa.table({"image": [str(path.resolve()) for path in chosen], "mask": masks})
        pyarrow.csv.write_csv(table, out / f"{part}.csv")
        parts[part] = {path.stem for path in chosen}
    return parts


def fit(out: Path, steps: int, seed: int, labels: Path | None) -> dict[str, Any]:
    """Train at gamma 0, with labels or without, and evaluate on the others."""
    model = out / ("model 0" if labels is None else f"model {labels.stem}")
    settings: dict[str, Any] = {
        "tile_size": TILE,
        "steps": steps,
        "seed": seed,
        "batch_size": 32,
        "normal_tiles": 4000,
        "supervision": 0,
    }
    width: dict[str, Any] = {"hidden": 64, "residual_hidden": 16}
    more: dict[str, Any] = {} if labels is None else {"labels": str(labels)}
    place: dict[str, Any] = {
        "manifest": str(out.parent / "training.csv"),
        "out": str(model),
        "tile_cache": str(out.parent / "tile-cache"),
    }
    train(TrainConfig(**place, **settings, **more, architecture=width, allow_failed_images=True))
    others = EvaluateConfig(model=str(model), manifest=str(out.parent / "others.csv"), allow_failed_images=True)
    return evaluate_model(others)


def look(out: Path, masks: Path) -> list[tuple[str, float, bool]]:
    """tile_id, score and whether half of it or more is anomalous, of each tile of the survey."""
    sql = "SELECT image_uri, tile_id, x, y, width, height, score FROM tiles WHERE isfinite(score) ORDER BY image_uri"
    found: dict[str, list[dict[str, Any]]] = {}
    for row in Scores(str(out / "scores")).sql(sql).to_pylist():
        found.setdefault(row["image_uri"], []).append(row)
    truth = []
    for uri, rows in found.items():
        with rasterio.open(masks / f"{Path(uri).stem}.png") as mask:
            for row in rows:
                window = Window(row["x"], row["y"], row["width"], row["height"])
                share = float(np.any(mask.read(window=window) != 0, axis=0).mean())
                truth.append((row["tile_id"], row["score"], share >= 0.5))
    return truth


def mark(out: Path, truth: list[tuple[str, float, bool]], number: int) -> Path:
    """Label the normal tiles with the highest scores and the anomalous ones with the lowest."""
    labels = out / f"{number}.parquet"
    labels.unlink(missing_ok=True)
    by_score = sorted(truth, key=lambda tile: tile[1])
    misses = [tile_id for tile_id, _, anomalous in by_score if anomalous][:number]
    alarms = [tile_id for tile_id, _, anomalous in reversed(by_score) if not anomalous][:number]
    for said, ids in (("anomalous", misses), ("normal", alarms)):
        (out / "ids.csv").write_text("\n".join(["tile_id", *ids]))
        settings: dict[str, Any] = {"tiles": str(out / "ids.csv"), "as": said, "out": str(labels), "who": "the masks"}
        label(LabelConfig(scores=str(out / "scores"), survey="survey", **settings))
    return labels


if __name__ == "__main__":
    main()
