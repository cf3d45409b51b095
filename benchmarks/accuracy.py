"""AUROC by supervision level, against two references: a colour threshold and a supervised classifier.

    python -m benchmarks.accuracy patches --data ../shared/data --out results --markdown docs/accuracy-patches.md

For every supervision level and seed, both methods are trained by `ssvq train` with the same settings on the same
tiles and tested on the same images, which chose nothing. The seed draws the splits, the weights and the batches.
Runs that are finished are not run again. Differences are of AUROC on the same test tiles; their 95 % intervals are
over resamples of the test images, within each seed.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ssvq.config import TrainConfig
from ssvq.evaluation.bootstrap import Ranking, bootstrap, interval
from ssvq.model.bundle import is_finished
from ssvq.ray_session import ray_session
from ssvq.training.job import train

GAMMAS = (0.0, 0.01, 0.05, 0.1, 0.2)
METHODS = ("ss-vq-vae", "classifier")
COLOURS = {"colour, mean": "redness", "colour, 90th percentile": "redness_p90"}
PART_GAP = 150  # frames between photographs of different parts

COMMON: dict[str, Any] = {
    "test_fraction": 0.3,
    "validation_fraction": 0.15,
    "calibration_fraction": 0.05,
    "allow_failed_images": True,
}
PATCHES: dict[str, Any] = {
    "tile_size": 64,
    "normal_tiles": 4000,
    "validation_tiles": 500,
    "calibration_tiles": 200,
    "test_tiles": 2000,
}
SETTINGS: dict[str, dict[str, Any]] = {
    # 64x64 patches of the corrosion photographs, anomalous at 50 %
    "patches": PATCHES,
    # whole 512x512 tiles, trained on crops
    "tiles": {"tile_size": 512, "crop": 64, "validation_tiles": 60, "calibration_tiles": 20, "test_tiles": 300},
    # 64x64 patches of magnetic tiles, where colour tells nothing
    "magnetic": PATCHES | {"anomalous_fraction": 0.05},
}


@dataclass(frozen=True)
class Run:
    """One training, and its scores of the test tiles."""

    method: str
    gamma: float
    seed: int
    test: pa.Table

    def auroc(self, column: str = "score") -> float:
        """AUROC of a column on the test tiles."""
        return self.ranking(column).auroc(np.ones(len(self.test), np.int64))

    def ranking(self, column: str) -> Ranking:
        """The test tiles ranked by a column."""
        return Ranking(self.test[column].to_numpy(), self.test["anomalous"].to_numpy())

    @property
    def groups(self) -> NDArray[np.object_]:
        """What is resampled: images, or groups of them."""
        return pc.coalesce(self.test["group"], self.test["path"]).to_numpy(zero_copy_only=False)


def main() -> int:
    """Train what is missing, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=SETTINGS)
    parser.add_argument("--data", type=Path, required=True, help="folder with corrosion/ and magnetic_tile/")
    parser.add_argument("--out", type=Path, required=True, help="folder for bundles and the tile cache")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--gammas", type=float, nargs="+", default=GAMMAS)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="other settings of ssvq train")
    parser.add_argument("--finished", action="store_true", help="train nothing: tables of the runs that are finished")
    parser.add_argument("--markdown", type=Path, help="file for the tables")
    arguments = parser.parse_args()
    out = arguments.out / arguments.name
    out.mkdir(parents=True, exist_ok=True)
    source = _magnetic_source(arguments.data, out) if arguments.name == "magnetic" else _corrosion(arguments.data)
    settings = COMMON | SETTINGS[arguments.name] | source | _nested(arguments.set)
    settings |= {"steps": arguments.steps, "batch_size": arguments.batch_size}
    settings |= {"validate_every": max(1, arguments.steps // 3), "tile_cache": str(arguments.out / "tile-cache")}
    runs = []
    with ray_session(debug=False):
        for seed in range(arguments.seeds):
            for gamma in arguments.gammas:
                for method in arguments.methods:
                    if gamma == 0 and method == "classifier":
                        continue  # nothing to classify
                    bundle = out / f"{method}-{gamma:g}-{seed}"
                    if arguments.finished and not is_finished(str(bundle)):
                        continue
                    train(TrainConfig(out=str(bundle), method=method, supervision=gamma, seed=seed, **settings))
                    table = pq.read_table(bundle / "held-out.parquet")
                    runs.append(Run(method, gamma, seed, table.filter(pc.equal(table["split"], "test"))))
                    print(f"test AUROC {runs[-1].auroc():.3f} ({bundle.name})", flush=True)
    command = "python -m benchmarks.accuracy " + " ".join(_relative(sys.argv[1:]))
    text = "\n".join(tables(runs, command))
    print(text)
    if arguments.markdown:
        arguments.markdown.write_text(text + "\n")
    return 0


def tables(runs: list[Run], command: str) -> Iterable[str]:
    """Markdown: AUROC by supervision level, and the paired differences."""
    gammas = sorted({run.gamma for run in runs})
    of = {(run.method, run.gamma): [r for r in runs if (r.method, r.gamma) == (run.method, run.gamma)] for run in runs}
    yield f"`{command}`\n"
    by_seed = list({run.seed: run for run in runs}.values())
    tiles = [len(run.test) for run in by_seed]
    anomalous = [int(pc.sum(run.test["anomalous"]).as_py()) for run in by_seed]
    images = [len(set(run.test["path"].to_pylist())) for run in by_seed]
    yield f"Test: {_list(tiles)} tiles, {_list(anomalous)} of them anomalous, of {_list(images)} images, by seed.\n"
    yield "| gamma | " + " | ".join((*METHODS, *COLOURS)) + " |"
    yield "|---|" + "---|" * (len(METHODS) + len(COLOURS))
    for gamma in gammas:
        cells = [_mean_and_deviation([run.auroc() for run in of.get((method, gamma), [])]) for method in METHODS]
        cells += [_mean_and_deviation([run.auroc(column) for run in by_seed]) for column in COLOURS.values()]
        yield f"| {gamma:g} | " + " | ".join(cells) + " |"
    yield "\nss-vq-vae less the other, on the same test tiles (95 % interval over images, mean of the seeds):\n"
    yield "| gamma | classifier | " + " | ".join(COLOURS) + " |"
    yield "|---|" + "---|" * (1 + len(COLOURS))
    for gamma in gammas:
        ours = {run.seed: run for run in of.get((METHODS[0], gamma), [])}
        theirs = {run.seed: run for run in of.get((METHODS[1], gamma), [])}
        cells = [_difference([(ours[seed], theirs[seed]) for seed in ours if seed in theirs], "score")]
        cells += [_difference([(run, run) for run in ours.values()], column) for column in COLOURS.values()]
        yield f"| {gamma:g} | " + " | ".join(cells) + " |"


def _difference(pairs: list[tuple[Run, Run]], column: str) -> str:
    """Mean over seeds of the paired difference; resamples of different seeds are independent."""
    if not pairs:
        return ""
    values, figures = [], []
    for ours, other in pairs:
        rankings = {"ours": ours.ranking("score").auroc, "other": other.ranking(column).auroc}
        resampled = bootstrap(ours.groups, rankings, seed=ours.seed)
        values.append(resampled["ours"] - resampled["other"])
        figures.append(ours.auroc() - other.auroc(column))
    known = interval(np.mean(values, axis=0))
    return f"{np.mean(figures):+.3f} ({known.low:+.3f} to {known.high:+.3f})"


def _mean_and_deviation(figures: list[float]) -> str:
    if not figures:
        return ""
    spread = f" ± {np.std(figures, ddof=1):.3f}" if len(figures) > 1 else ""
    return f"{np.mean(figures):.3f}{spread}"


def _list(numbers: list[int]) -> str:
    return ", ".join(str(number) for number in numbers)


def _corrosion(data: Path) -> dict[str, Any]:
    return {"images": str(data / "corrosion" / "images"), "masks": str(data / "corrosion" / "masks")}


def _magnetic_source(data: Path, out: Path) -> dict[str, Any]:
    """A manifest of the magnetic tiles with the part of each photograph as its group.

    The names are expA_num_B: exposure A, frame B. The frames of one part follow each other with rising exposures, so a
    part begins where the exposure does not rise or frames are far apart. No two photographs share a B.
    """
    root = (data / "magnetic_tile").resolve()
    rows = []
    for path in sorted([*root.glob("train/good/*.jpg"), *root.glob("test/*/*.jpg")]):
        exposure, frame = map(int, re.fullmatch(r"exp(\d+)_num_(\d+)", path.stem).groups())  # type: ignore[union-attr]
        label = path.parent.name
        mask = root / "ground_truth" / label / f"{path.stem}_mask.png"
        rows.append((frame, exposure, str(path), str(mask) if label != "good" else "", label))
    rows.sort()
    part, manifest = 0, []
    for before, row in zip([rows[0], *rows], rows, strict=False):
        part += row[0] - before[0] > PART_GAP or row[1] <= before[1]
        manifest.append({"image": row[2], "mask": row[3], "label": row[4], "group": str(part)})
    pyarrow.csv.write_csv(pa.Table.from_pylist(manifest), out / "manifest.csv")
    return {"manifest": str(out / "manifest.csv")}


def _nested(assignments: list[str]) -> dict[str, Any]:
    """`objective.margin=2` as {"objective": {"margin": 2}}."""
    settings: dict[str, Any] = {}
    for assignment in assignments:
        path, _, value = assignment.partition("=")
        *sections, name = path.replace("-", "_").split(".")
        place = settings
        for section in sections:
            place = place.setdefault(section, {})
        try:
            place[name] = json.loads(value)
        except json.JSONDecodeError:
            place[name] = value
    return settings


def _relative(arguments: list[str]) -> list[str]:
    """Arguments without the file of the tables, which says nothing of what was measured."""
    if "--markdown" in arguments:
        at = arguments.index("--markdown")
        return [*arguments[:at], *arguments[at + 2 :]]
    return arguments


if __name__ == "__main__":
    sys.exit(main())
