"""Runs that are killed anywhere, surveys that change between them, jobs side by side: in the end each image has the
rows of an undisturbed run, none twice and none missing.

The steps of a job are those of `ssvq.scoring.job` without Ray and without a network: a tile's score is its mean grey.
"""

import functools
import itertools
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from ssvq.config import ScoreConfig
from ssvq.errors import ImageError, InputError
from ssvq.imagery.catalog import SourceImage
from ssvq.imagery.raster import ImageHeader
from ssvq.imagery.units import ImagePart, headless_part, inspect, plan_units, read_unit
from ssvq.io import storage
from ssvq.model.bundle import read_description
from ssvq.scores.ledger import LedgerWriter, latest_rows, prune, read_ledger
from ssvq.scoring.collector import Collector
from ssvq.scoring.plan import ScorePlan, plan_scoring
from ssvq.scoring.writer import ScoringRun
from tests.support.images import write_image
from tests.support.scored import outcomes_of
from tests.support.surveys import TILE, make_bundle

PART_PIXELS = 4 * TILE**2  # so that the large image has several parts

NAMES = ["a.png", "b c.png", "d/é.png", "large.png"]
KINDS = ["small", "wide", "broken", "transparent", "gone"]
RUNS = itertools.count()


described = functools.cache(read_description)


class World:
    """A survey that can be changed, and jobs over it."""

    def __init__(self, root: Path, bundle: Path) -> None:
        self.root, self.bundle, self.versions = root, bundle, itertools.count(1)
        (root / "survey").mkdir()
        write_image(root / "survey" / "always.png", np.full((TILE, TILE, 3), 7, np.uint8))

    def config(self, out: str, **changes: Any) -> ScoreConfig:
        return ScoreConfig(
            survey=str(self.root / "survey"), model=str(self.bundle), out=str(self.root / out), **changes
        )

    def plan(self, config: ScoreConfig) -> ScorePlan:
        """What is to do; the model's description is read once, and its network not built."""
        return plan_scoring(config, described(config.model))

    def set(self, name: str, kind: str) -> None:
        """Give an image other content, or remove it."""
        path = self.root / "survey" / name
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        version = next(self.versions)
        grey = np.random.default_rng(version).integers(
            1, 255, (TILE, TILE * (9 if "large" in name else 2), 3), np.uint8
        )
        if kind == "small":
            write_image(path, grey[:, :TILE])
        elif kind == "wide":
            write_image(path, grey)
        elif kind == "transparent":
            write_image(path, np.dstack([grey, np.zeros(grey.shape[:2], np.uint8)]))
        elif kind == "broken":
            path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(version))

    def job(self, config: ScoreConfig, random: np.random.Generator) -> Iterator[None]:
        """The steps of a job; between any two of them it may be killed, or another may run."""
        plan = self.plan(config)
        run = ScoringRun(plan.partition, config.survey, f"run-{next(RUNS):06}", plan.bundle.calibration)
        with LedgerWriter(config.out, run.run_id, rows_in_segment=2) as ledger:
            collector = Collector(run, ledger)
            headers: list[tuple[SourceImage, ImageHeader]] = []
            written = []
            for source in plan.todo():
                try:
                    headers.append((source, inspect(source)))
                except ImageError as error:
                    written += outcomes_of(run, _scored(headless_part(source, plan.tiling), error))
                yield
            units = plan_units(headers, plan.tiling, plan.bundle.preprocessing.pixels, part_pixels=PART_PIXELS)
            random.shuffle(units)
            for unit in units:
                written += outcomes_of(run, *(_scored(*read) for read in read_unit(unit)))
                yield
                random.shuffle(written)
                while len(written) > 2:
                    collector.take(written.pop())
                    yield
            for outcome in written:
                collector.take(outcome)
                yield
            for image_id, known in plan.removed.items():
                row = prune(image_id, known, plan.partition, run.run_id, run.number)
                yield
                if row is not None:
                    ledger.add(row)

    def kill(self, job: Iterator[None]) -> None:
        """End a job as SIGKILL does: nothing of what it has in memory is written."""
        with mock.patch.object(storage, "put", side_effect=KeyboardInterrupt), suppress(KeyboardInterrupt):
            job.close()  # type: ignore[attr-defined]

    def finish(self, out: str, **changes: Any) -> "Result":
        """Run a job to its end, as often as images change meanwhile."""
        config = self.config(out, **changes)
        list(self.job(config, np.random.default_rng(0)))
        return Result(self.plan(config))


class Result:
    """What a plain Parquet reader and the ledger see."""

    def __init__(self, plan: ScorePlan) -> None:
        self.left = len(list(plan.todo()))
        files = sorted(path for path in Path(plan.partition.tiles).rglob("*") if path.is_file())
        tables = [pq.read_table(path) for path in files]
        self.rows = sorted(
            (row["image_id"], row["tile_id"], row["fingerprint"], row["score"])
            for table in tables
            for row in table.select(["image_id", "tile_id", "fingerprint", "score"]).to_pylist()
        )
        self.files = [path.name for path in files]
        latest = latest_rows(read_ledger(plan.partition.out, plan.partition.survey), plan.partition).to_pylist()
        self.states = {row["image_id"]: (row["status"], row["tiles"], row["fingerprint"]) for row in latest}


def _scored(part: ImagePart, result: Any) -> dict[str, Any]:
    row: dict[str, Any] = {"part": part.to_json(), "read_seconds": 0.0}
    if isinstance(result, ImageError):
        return row | {"error_stage": result.stage, "error_message": result.message}
    kept = [i for i, fraction in enumerate(result.valid_fraction) if fraction > 0]
    scores = [float(result.pixels[i].mean()) for i in kept]
    lists = {"kept": kept, "valid_fraction": [1.0] * len(kept), "score": scores, "score_max": scores}
    return row | lists | {"score_map": None, "precision": "fp32"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle")
    make_bundle(path)
    return path


changes = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(KINDS)), min_size=1, max_size=6)
rounds = st.lists(st.tuples(changes, st.integers(0, 25), st.integers(0, 9)), min_size=1, max_size=4)


def in_new_world(bundle: Path) -> Any:
    folder = Path(tempfile.mkdtemp())
    return folder, World(folder, bundle)


def killed_anywhere_and_run_again(bundle: Path, rounds: list[tuple[list[tuple[str, str]], int, int]]) -> None:
    folder, world = in_new_world(bundle)
    try:
        for changed, steps, seed in rounds:
            for name, kind in changed:
                world.set(name, kind)
            job = world.job(world.config("disturbed"), np.random.default_rng(seed))
            for _ in itertools.islice(job, steps):
                pass
            world.kill(job)
        disturbed, undisturbed = world.finish("disturbed", prune=True), world.finish("undisturbed", prune=True)
        assert disturbed.rows == undisturbed.rows
        assert disturbed.files == undisturbed.files
        there = {image_id: state for image_id, state in disturbed.states.items() if state[0] != "removed"}
        assert there == undisturbed.states
        failed = sum(status == "failed" for status, *_ in undisturbed.states.values())
        assert (disturbed.left, undisturbed.left) == (failed, failed), "only what failed is tried again"
    finally:
        shutil.rmtree(folder)


def two_jobs_at_once(bundle: Path, rounds: list[tuple[list[tuple[str, str]], int, int]], turns: list[bool]) -> None:
    """Images change while both run. One more run, with nothing beside it, heals what the slower job overwrote."""
    folder, world = in_new_world(bundle)
    try:
        for changed, steps, seed in rounds:
            jobs = [world.job(world.config("both"), np.random.default_rng(seed + k)) for k in range(2)]
            running = dict(enumerate(jobs))
            for step, turn in enumerate(turns):
                if step == steps:
                    for name, kind in changed:
                        world.set(name, kind)
                job = running.get(int(turn)) or next(iter(running.values()), None)
                if job is not None and next(job, "done") == "done":
                    running = {k: j for k, j in running.items() if j is not job}
            for job in running.values():
                list(job)
        both, undisturbed = world.finish("both", prune=True), world.finish("undisturbed", prune=True)
        assert both.rows == undisturbed.rows
        assert both.files == undisturbed.files
    finally:
        shutil.rmtree(folder)


def examples(number: int) -> settings:
    """So many examples; to make one that fails smaller would take hours."""
    return settings(max_examples=number, phases=[Phase.explicit, Phase.reuse, Phase.generate])


test_killed_anywhere_and_run_again = examples(25)(given(rounds)(killed_anywhere_and_run_again))
test_killed_anywhere_many_times = pytest.mark.soak(examples(400)(given(rounds)(killed_anywhere_and_run_again)))
turns = st.lists(st.booleans(), min_size=80, max_size=80)
test_two_jobs_at_once = examples(20)(given(rounds, turns)(two_jobs_at_once))
test_two_jobs_at_once_many_times = pytest.mark.soak(examples(300)(given(rounds, turns)(two_jobs_at_once)))


def test_removed_images_stay_unless_pruned(bundle: Path, tmp_path: Path) -> None:
    world = World(tmp_path, bundle)
    world.set("a.png", "wide")
    before = world.finish("out")
    world.set("a.png", "gone")
    assert world.finish("out").rows == before.rows
    pruned = world.finish("out", prune=True)
    assert len(pruned.rows) == 1
    assert sorted(state[0] for state in pruned.states.values()) == ["removed", "scored"]
    world.set("a.png", "wide")
    assert len(world.finish("out").rows) == 3, "it came back"


def test_what_failed_is_tried_again_unless_told_not_to(bundle: Path, tmp_path: Path) -> None:
    world = World(tmp_path, bundle)
    world.set("a.png", "broken")
    world.finish("out")
    assert [image.path for image in plan_scoring(world.config("out")).todo()] == ["a.png"]
    assert not plan_scoring(world.config("out", retry_failed=False)).to_score
    world.set("a.png", "broken")
    assert plan_scoring(world.config("out", retry_failed=False)).to_score == 1, "it is another file now"


def test_a_new_model_or_tiling_leaves_the_old_scores_whole(bundle: Path, tmp_path: Path) -> None:
    world = World(tmp_path, bundle)
    world.set("a.png", "wide")
    before = world.finish("out")
    overlapping = world.finish("out", stride=TILE // 2)
    assert len(overlapping.rows) > len(before.rows)
    make_bundle(tmp_path / "other", seed=1)
    world.bundle = tmp_path / "other"
    assert [row[3] for row in world.finish("out").rows] == [row[3] for row in before.rows]
    world.bundle = bundle
    assert Result(plan_scoring(world.config("out"))).rows == before.rows


def test_an_image_that_changes_before_it_is_put_is_planned_anew(bundle: Path, tmp_path: Path) -> None:
    world = World(tmp_path, bundle)
    for kind in ("wide", "broken"):
        world.set("a.png", kind)
        config = world.config("out")
        plan = plan_scoring(config)
        world.set("a.png", "wide")
        run = ScoringRun(plan.partition, config.survey, "run", plan.bundle.calibration)
        with LedgerWriter(config.out, "run") as ledger:
            collector = Collector(run, ledger)
            (source,) = (image for image in plan.todo() if image.path == "a.png")
            error = ImageError("read", "half of it was there")
            for outcome in outcomes_of(run, _scored(headless_part(source, plan.tiling), error)):
                collector.take(outcome)
            assert [image.path for image in collector.changed] == ["a.png"]
            assert not collector.totals


def test_what_is_listed_and_what_is_left(bundle: Path, tmp_path: Path) -> None:
    world = World(tmp_path, bundle)
    for name in NAMES:
        world.set(name, "small")

    def todo(**changes: Any) -> list[str]:
        return [image.path for image in plan_scoring(world.config("survey/scores", **changes)).todo()]

    assert todo() == ["a.png", "always.png", "b c.png", "d/é.png", "large.png"]
    assert todo(include=["d/*", "a*"]) == ["a.png", "always.png", "d/é.png"]
    assert todo(exclude=["*a*"]) == ["b c.png", "d/é.png"]
    assert todo(limit=2) == ["a.png", "always.png"]
    world.finish("survey/scores", limit=2)
    assert todo(limit=2) == ["b c.png", "d/é.png"]
    with pytest.raises(InputError, match="--include and --exclude leave none of the 5 images"):
        todo(exclude=["*.png"])
