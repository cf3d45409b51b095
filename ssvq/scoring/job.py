"""The scoring job: reads a survey, writes score maps and a ledger. It scores only new and changed images."""

import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from itertools import chain
from typing import Any

from ssvq import logs
from ssvq.errors import ExitCode, images_exit_code
from ssvq.imagery.catalog import SourceImage
from ssvq.io import storage
from ssvq.runtime.planning import ImageStream
from ssvq.runtime.session import ray_session
from ssvq.scores.layout import Partition, model_file, new_run_id, run_file
from ssvq.scores.ledger import LedgerWriter, prune
from ssvq.scoring.collector import Collector
from ssvq.scoring.dry_run import describe, print_more_pages
from ssvq.scoring.outcome import PartOutcome
from ssvq.scoring.plan import ScorePlan, list_survey, plan_scoring
from ssvq.scoring.progress import ScoringProgress
from ssvq.scoring.settings import ScoreConfig
from ssvq.scoring.stages import MakeScorer, load_scorer, score_images, write_units
from ssvq.scoring.writer import ScoringRun, passed_over_row

PASSES = 3  # over images that change during the run


def score(config: ScoreConfig, plan: ScorePlan | None = None, make_scorer: MakeScorer = load_scorer) -> ExitCode:
    """Score a survey. A second run continues where the first stopped, and scores new and changed images.

    `plan`: a plan of these settings, if there is one already. `make_scorer`: makes the scorer of a process.

    Raises InputError for wrong input, and OSError if the output cannot be written.
    """
    plan = plan or plan_scoring(config)
    if config.dry_run:
        describe(plan, config)
        return ExitCode.DONE
    if not plan.has_work:
        survey, model = plan.partition.survey, plan.bundle.model_id
        print(f"nothing to do: all {plan.images} images of survey {survey!r} are done by model {model}")
        return ExitCode.DONE
    storage.check_writable(config.out, "--out")
    run = ScoringRun(plan.partition, config.survey, new_run_id(), plan.bundle.calibration, plan.run_number)
    logs.bind(run_id=run.run_id, survey=plan.partition.survey)
    storage.put_text(model_file(config.out, plan.bundle.model_id), plan.bundle.model_dump_json(indent=2) + "\n")
    _save_run(config, run, None)
    print(plan, flush=True)

    started = time.monotonic()
    # The ledger is put before Ray stops: a job that is stopped from outside has seconds for both.
    session = ray_session(debug=config.debug) if plan.to_score else nullcontext()
    with session, LedgerWriter(config.out, run.run_id) as ledger:
        collector = Collector(run, ledger)
        scoring_seconds = _score(config, plan, collector, make_scorer) if plan.to_score else 0.0
        removed = plan.removed
        for image_id, known in removed.items():
            row = prune(image_id, known, plan.partition, run.run_id, run.number)
            if row is not None:
                ledger.add(row)
        for other in plan.newly_passed_over():
            ledger.add(passed_over_row(run, other))
    collector.failures.end()
    summary: dict[str, Any] = {
        "images": plan.images,
        **{name: collector.totals[name] for name in ("scored", "failed")},
        "pruned": len(removed),
        "changing": len(collector.changed),
        "done_before": plan.images - plan.left,
        "passed_over": dict(Counter(other.reason for other in plan.passed_over)),
        "more_pages": collector.more_pages,
        "left": plan.left - plan.to_score,
        **{name: collector.totals[name] for name in ("tiles", "skipped_tiles", "anomalous_tiles", "object_bytes")},
        "false_positive_rate": plan.bundle.calibration.deciding.false_positive_rate,
        "decoders": dict(collector.decoders),
        "seconds": round(time.monotonic() - started, 1),
        "scoring_seconds": round(scoring_seconds, 1),
    }
    _save_run(config, run, summary)
    _print_summary(config, plan.partition, summary)
    return images_exit_code(summary["failed"] + summary["changing"], allowed=config.allow_failed_images)


def _score(config: ScoreConfig, plan: ScorePlan, collector: Collector, make_scorer: MakeScorer) -> float:
    """Score the images of the plan, and score images that change during the run once more.

    Returns seconds, without Ray's start.
    """
    with collector.metrics:
        started = time.monotonic()
        todo: Iterable[SourceImage] = plan.todo()
        for _ in range(PASSES):
            collector.changed = []
            _score_images(plan, todo, collector, make_scorer)
            if not collector.changed:
                break
            todo = _as_now(config, collector.changed)
        return time.monotonic() - started


def _score_images(
    plan: ScorePlan, images: Iterable[SourceImage], collector: Collector, make_scorer: MakeScorer
) -> None:
    total = plan.to_score if plan.is_listed and not collector.totals else None
    with ImageStream(images) as stream, ScoringProgress(total) as progress:
        scored = score_images(stream, plan.config, plan.bundle, plan.tiling, make_scorer)
        outcomes = write_units(scored, collector.run)
        for batch in outcomes.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            for outcome in map(PartOutcome.from_dict, chain.from_iterable(batch["outcomes"].to_pylist())):
                share = collector.take(outcome)
                stream.end(share)
                progress.advance(share, outcome.tiles)
                collector.metrics.set_queue("images", stream.missing)
        stream.check()
        if stream.missing:
            raise storage.StorageError(f"{stream.missing} images were handed out and never came back")


def _as_now(config: ScoreConfig, images: list[SourceImage]) -> Iterator[SourceImage]:
    """The images as the survey lists them now."""
    wanted = {image.path for image in images}
    return (image for image in list_survey(config) if image.path in wanted)


def _save_run(config: ScoreConfig, run: ScoringRun, summary: dict[str, Any] | None) -> None:
    partition = run.partition
    record = {
        "run_id": run.run_id,
        **partition.identity,
        "config": config.saved(),
        "summary": summary,
    }
    storage.put_text(run_file(config.out, run.run_id), json.dumps(record, indent=2) + "\n")


def _print_false_alarms(tiles: int, rate: float) -> None:
    """Print how many false alarms to expect among the tiles, by the model's calibration."""
    if tiles:
        expected = f"up to {round(rate * tiles):,} of the {tiles:,} tiles"
        print(f"expected false alarms: {expected}, {100 * rate:.2g} % of normal tiles")


def _print_summary(config: ScoreConfig, partition: Partition, summary: dict[str, Any]) -> None:
    rate = summary["tiles"] / max(summary["scoring_seconds"], 1e-9)
    print(
        f"scored {summary['scored']} images, {summary['tiles']} tiles ({rate:.1f} a second), "
        f"{summary['anomalous_tiles']} of them anomalous; failed {summary['failed']} images; "
        f"skipped {summary['skipped_tiles']} tiles without valid pixels"
    )
    _print_false_alarms(summary["tiles"], summary["false_positive_rate"])
    if summary["pruned"]:
        print(f"removed the scores of {summary['pruned']} images that are no longer in the survey")
    passed_over = sum(summary["passed_over"].values())
    if passed_over or summary["done_before"] or summary["left"]:
        left = summary["left"] + summary["changing"]
        print(
            f"found {summary['images'] + passed_over} pictures: {summary['scored']} scored, "
            f"{summary['failed']} failed, {summary['done_before']} done before, {left} left, {passed_over} passed over"
        )
    print_more_pages(summary["more_pages"])
    print(f"score maps: {partition.tiles} ({summary['object_bytes'] / 1e6:.1f} MB in {summary['seconds']:.0f} s)")
    if summary["left"]:
        print(f"{summary['left']} images are left because of --limit: run the same command again")
    if summary["changing"]:
        print(f"{summary['changing']} images kept changing during the run: run the same command again")
    if summary["failed"]:
        where = f"status = 'failed' AND survey = '{partition.survey.replace(chr(39), chr(39) * 2)}'"
        print(f'failures: ssvq query {config.out} "SELECT image_uri, error_message FROM images WHERE {where}"')
