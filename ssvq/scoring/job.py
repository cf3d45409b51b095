"""The scoring job: a survey in, score maps and a ledger out; only new and changed images are scored."""

import json
import time
from contextlib import nullcontext
from typing import Any

from ssvq import logs, storage
from ssvq.config import ScoreConfig
from ssvq.errors import ExitCode, images_exit_code
from ssvq.imagery.catalog import SourceImage
from ssvq.imagery.units import plan_units
from ssvq.pipeline import inspect_images
from ssvq.progress import Progress
from ssvq.ray_session import ray_session
from ssvq.scoring.collector import Collector
from ssvq.scoring.dry_run import describe
from ssvq.scoring.layout import Partition, model_file, new_run_id, run_file
from ssvq.scoring.ledger import LedgerWriter, prune
from ssvq.scoring.plan import ScorePlan, list_survey, plan_scoring
from ssvq.scoring.stages import score_units, write_units
from ssvq.scoring.writer import ScoringRun

PASSES = 3  # over images that change while they are read


def score(config: ScoreConfig) -> ExitCode:
    """Run the job; running it again goes on where it stopped, and scores what is new or changed.

    Raises InputError for wrong input, and OSError for an output that cannot be written (any more).
    """
    plan = plan_scoring(config)
    if config.dry_run:
        describe(plan, config)
        return ExitCode.DONE
    if not plan.todo and not plan.removed:
        survey, model = plan.partition.survey, plan.bundle.model_id
        print(f"nothing to do: all {len(plan.images)} images of survey {survey!r} are done by model {model}")
        return ExitCode.DONE
    storage.check_writable(config.out, "--out")
    run = ScoringRun(plan.partition, config.survey, new_run_id(), plan.bundle.calibration)
    logs.bind(run_id=run.run_id, survey=plan.partition.survey)
    storage.put_text(model_file(config.out, plan.bundle.model_id), plan.bundle.model_dump_json(indent=2) + "\n")
    _save_run(config, run, None)
    print(plan, flush=True)

    started = time.monotonic()
    # The ledger is put before Ray stops: a job that is stopped from outside has seconds for both.
    session = ray_session(debug=config.debug) if plan.todo else nullcontext()
    with session, LedgerWriter(config.out, run.run_id) as ledger:
        collector = Collector(run, ledger)
        for image_id, known in plan.removed.items():
            row = prune(image_id, known, plan.partition, run.run_id)
            if row is not None:
                ledger.add(row)
        scoring_seconds = _score(config, plan, run, collector) if plan.todo else 0.0
    collector.failures.end()
    summary: dict[str, Any] = {
        "images": len(plan.images),
        **{name: collector.totals[name] for name in ("scored", "failed")},
        "pruned": len(plan.removed),
        "changing": len(collector.changed),
        "left": plan.left - len(plan.todo),
        **{name: collector.totals[name] for name in ("tiles", "skipped_tiles", "anomalous_tiles", "object_bytes")},
        "seconds": round(time.monotonic() - started, 1),
        "scoring_seconds": round(scoring_seconds, 1),
    }
    _save_run(config, run, summary)
    _print_summary(config, plan.partition, summary)
    return images_exit_code(summary["failed"] + summary["changing"], allowed=config.allow_failed_images)


def _score(config: ScoreConfig, plan: ScorePlan, run: ScoringRun, collector: Collector) -> float:
    """Score the images that are to do; those that change meanwhile again. Returns seconds without Ray's start."""
    with collector.metrics:
        started = time.monotonic()
        todo = plan.todo
        for _ in range(PASSES):
            collector.changed = []
            _score_images(config, plan, todo, run, collector)
            if not collector.changed:
                break
            todo = _as_now(config, collector.changed)
        return time.monotonic() - started


def _score_images(
    config: ScoreConfig, plan: ScorePlan, images: list[SourceImage], run: ScoringRun, collector: Collector
) -> None:
    headers, failed = inspect_images(images, config.read)
    for source, error in failed:
        collector.fail(source, error)
    units = plan_units(headers, plan.tiling, plan.bundle.preprocessing.pixels)
    if not units:
        return
    outcomes = write_units(score_units(units, config), run)
    with Progress("scoring", sum(len(part.block) for unit in units for part in unit), "tiles") as progress:
        for batch in outcomes.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            for outcome in batch.to_pylist():
                collector.take(outcome)
                progress.advance(outcome["tiles"])
                collector.metrics.set_queue("tiles", progress.total - progress.done)


def _as_now(config: ScoreConfig, images: list[SourceImage]) -> list[SourceImage]:
    """The images as the survey lists them now."""
    wanted = {image.path for image in images}
    return [image for image in list_survey(config) if image.path in wanted]


def _save_run(config: ScoreConfig, run: ScoringRun, summary: dict[str, Any] | None) -> None:
    partition = run.partition
    record = {
        "run_id": run.run_id,
        "survey": partition.survey,
        "model_id": partition.model_id,
        "tiling_id": partition.tiling_id,
        "config": config.saved(),
        "summary": summary,
    }
    storage.put_text(run_file(config.out, run.run_id), json.dumps(record, indent=2) + "\n")


def _print_summary(config: ScoreConfig, partition: Partition, summary: dict[str, Any]) -> None:
    rate = summary["tiles"] / max(summary["scoring_seconds"], 1e-9)
    print(
        f"scored {summary['scored']} images, {summary['tiles']} tiles ({rate:.1f} a second), "
        f"{summary['anomalous_tiles']} of them anomalous; failed {summary['failed']} images; "
        f"skipped {summary['skipped_tiles']} tiles without valid pixels"
    )
    if summary["pruned"]:
        print(f"removed the scores of {summary['pruned']} images that are no longer in the survey")
    print(f"score maps: {partition.tiles} ({summary['object_bytes'] / 1e6:.1f} MB in {summary['seconds']:.0f} s)")
    if summary["left"]:
        print(f"{summary['left']} images are left by --limit: run the same command again")
    if summary["changing"]:
        print(f"{summary['changing']} images kept changing while they were read: run the same command again")
    if summary["failed"]:
        where = f"status = 'failed' AND survey = '{partition.survey.replace(chr(39), chr(39) * 2)}'"
        print(f'failures: ssvq query {config.out} "SELECT image_uri, error_message FROM images WHERE {where}"')
