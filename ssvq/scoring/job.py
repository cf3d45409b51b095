"""The scoring job: a survey in, score maps and a ledger out; only new and changed images are scored."""

import json
import sys
import time
from collections import Counter
from typing import Any

from ssvq import storage
from ssvq.config import ScoreConfig
from ssvq.errors import ExitCode, InputError, images_exit_code
from ssvq.imagery.catalog import SourceImage, list_images
from ssvq.imagery.grid import Tiling
from ssvq.imagery.units import ImagePart, plan_units
from ssvq.model import bundle as bundles
from ssvq.pipeline import TASK_RETRIES, inspect_images
from ssvq.progress import Progress
from ssvq.ray_session import ray_session
from ssvq.scoring.layout import Partition, check_survey_name, model_file, new_run_id, run_file
from ssvq.scoring.ledger import LedgerWriter, check_survey_root, not_done, read_ledger
from ssvq.scoring.schema import SCORE_MAP
from ssvq.scoring.stages import score_units
from ssvq.scoring.writer import ScoredImage, ScoringRun, join_parts, put_image, write_parts

PASSES = 3  # over images that change while they are read
FAILURES_SHOWN = 20


def score(config: ScoreConfig) -> ExitCode:
    """Run the job; running it again goes on where it stopped, and scores what is new or changed.

    Raises InputError for wrong input.
    """
    bundle = bundles.read_whole(config.model)
    survey = check_survey_name(config.survey_name or storage.base_name(config.survey))
    images = _outside(list_images(config.survey, "--survey"), config)
    tiling = bundle.preprocessing.tiling
    partition = Partition(config.out, survey, bundle.model_id, tiling.tiling_id)
    ledger = read_ledger(config.out, survey)
    check_survey_root(ledger, survey, config.survey)
    todo = not_done(images, ledger, partition)
    if not todo:
        print(f"nothing to do: all {len(images)} images of survey {survey!r} are scored by model {bundle.model_id}")
        return ExitCode.DONE
    storage.check_writable(config.out, "--out")
    run = ScoringRun(partition, config.survey, new_run_id(), bundle.calibration)
    storage.put_text(model_file(config.out, bundle.model_id), bundle.model_dump_json(indent=2) + "\n")
    _save_run(config, run, None)
    print(f"survey {survey!r}: {len(images)} images, {len(images) - len(todo)} done, {len(todo)} to score", flush=True)

    totals: Counter[str] = Counter()
    started = time.monotonic()
    with ray_session(debug=config.debug), LedgerWriter(config.out, run.run_id) as writer:
        for _ in range(PASSES):
            todo = _score_images(config, todo, tiling, run, writer, totals)
            if not todo:
                break
            todo = _as_now(config, todo)
    summary = {
        "images": len(images),
        **{name: totals[name] for name in ("scored", "failed", "tiles", "skipped_tiles", "anomalous_tiles")},
        "changing": len(todo),
        "seconds": round(time.monotonic() - started, 1),
    }
    _save_run(config, run, summary)
    _print_summary(config, partition, summary)
    return images_exit_code(totals["failed"] + len(todo), allowed=config.allow_failed_images)


def _outside(images: list[SourceImage], config: ScoreConfig) -> list[SourceImage]:
    """The images that do not lie in the output, which may be a folder within the survey."""
    inside = config.out.rstrip("/") + "/"
    kept = [image for image in images if not image.uri.startswith(inside)]
    if not kept:
        raise InputError(f"--survey {config.survey} holds no image outside --out {config.out}")
    return kept


def _score_images(
    config: ScoreConfig,
    images: list[SourceImage],
    tiling: Tiling,
    run: ScoringRun,
    writer: LedgerWriter,
    totals: Counter[str],
) -> list[SourceImage]:
    """Score images and note them in the ledger. Returns those that changed while they were read."""

    def note(row: dict[str, Any]) -> None:
        writer.add(row)
        totals[row["status"]] += 1
        totals.update({name: row[name] for name in ("tiles", "skipped_tiles", "anomalous_tiles")})
        if row["status"] == "failed" and totals["failed"] <= FAILURES_SHOWN:
            print(f"failed {row['image_uri']} ({row['error_stage']}): {row['error_message']}", file=sys.stderr)

    headers, failed = inspect_images(images)
    for source, error in failed:
        row = put_image(run, ScoredImage(source, None, SCORE_MAP.empty_table(), error, 0, 0.0))
        if row is not None:
            note(row)
    units = plan_units(headers, tiling)
    if not units:
        return []
    outcomes = score_units(units, config).map_batches(
        write_parts,
        fn_kwargs={"run": run},
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=0.25,
        max_retries=TASK_RETRIES,
    )
    changed: list[SourceImage] = []
    waiting: dict[str, list[dict[str, Any]]] = {}
    with Progress("scoring", sum(len(part.block) for unit in units for part in unit), "tiles") as progress:
        for batch in outcomes.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            for outcome in batch.to_pylist():
                part = ImagePart.from_json(outcome["part"])
                row = outcome["ledger"]
                progress.advance(outcome["tiles"])
                if part.count > 1:
                    gathered = waiting.setdefault(part.source.image_id, [])
                    gathered.append(outcome)
                    if len(gathered) < part.count:
                        continue
                    row = join_parts(waiting.pop(part.source.image_id), run)
                if row is None:
                    changed.append(part.source)
                else:
                    note(row)
    return changed


def _as_now(config: ScoreConfig, images: list[SourceImage]) -> list[SourceImage]:
    """The images as the survey lists them now."""
    wanted = {image.path for image in images}
    return [image for image in list_images(config.survey, "--survey") if image.path in wanted]


def _save_run(config: ScoreConfig, run: ScoringRun, summary: dict[str, Any] | None) -> None:
    record = {"run_id": run.run_id, "survey": run.partition.survey, "config": config.saved(), "summary": summary}
    storage.put_text(run_file(config.out, run.run_id), json.dumps(record, indent=2) + "\n")


def _print_summary(config: ScoreConfig, partition: Partition, summary: dict[str, Any]) -> None:
    rate = summary["tiles"] / max(summary["seconds"], 1e-9)
    print(
        f"scored {summary['scored']} images, {summary['tiles']} tiles ({rate:.1f} a second with start-up), "
        f"{summary['anomalous_tiles']} of them anomalous; failed {summary['failed']} images; "
        f"skipped {summary['skipped_tiles']} tiles without valid pixels"
    )
    print(f"score maps: {partition.tiles}")
    if summary["changing"]:
        print(f"{summary['changing']} images kept changing while they were read: run the same command again")
    if summary["failed"]:
        where = f"status = 'failed' AND survey = '{partition.survey.replace(chr(39), chr(39) * 2)}'"
        print(f'failures: ssvq query {config.out} "SELECT image_uri, error_message FROM images WHERE {where}"')
