"""`ssvq nightly`: scores, publishes and reports every survey under a root that has something new. Made for a schedule.

"New" is what `ssvq score` calls new: images of the survey that are not done in the ledger. The published file and the
page of a survey are made again if they are out of date. So the next night finishes a night that was cut short, and
needs no other memory.

There is no lock: if the last night's job still runs, both end in the same state, and at worst do some work twice.
"""

import json
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from ssvq import logs
from ssvq.errors import ExitCode, InputError, failure_of, one_line, reason_of
from ssvq.imagery.surveys import find_surveys, holds_images
from ssvq.io import storage
from ssvq.methods.build import read_bundle
from ssvq.model.description import Bundle
from ssvq.nightly.publication import Known, count_since, is_told, publish_and_report, read_known
from ssvq.nightly.settings import NightlyConfig
from ssvq.runtime.session import ray_session
from ssvq.scores.choose import count
from ssvq.scores.layout import check_survey_name, new_run_id, run_file
from ssvq.scoring.job import score
from ssvq.scoring.plan import ScorePlan, plan_scoring


@dataclass(frozen=True)
class Outcome:
    """The outcome of a survey. Images and tiles are those of this night in the ledger; images `left_alone` were done
    before.
    """

    survey: str
    code: ExitCode
    scored: int = 0
    failed: int = 0
    left_alone: int = 0
    tiles: int = 0
    anomalous_tiles: int = 0
    seconds: float = 0.0
    report: str | None = None
    problem: str | None = None


def nightly(config: NightlyConfig) -> ExitCode:
    """Bring every survey up to date, the newest first. A survey that fails does not stop the others.

    Raises InputError for a wrong model, for a root without surveys, and for an output that cannot be written.
    """
    run_id, started = new_run_id(), time.monotonic()
    bundle = read_bundle(config.model)  # a wrong model is one error, and not one for each survey
    surveys = _surveys(config)
    known = read_known(config.out)
    due, outcomes = _look(config, bundle, surveys, known)
    new = len(due) + len(outcomes)
    if not new:
        print(f"nothing new in {count(len(surveys), 'survey')} of {config.root}")
        return ExitCode.DONE
    print(f"{len(surveys)} surveys of {config.root}, {new} with something new", flush=True)
    if config.dry_run:
        return _describe(config, due, outcomes)
    storage.check_writable(config.out, "--out")
    if config.reports is not None:
        storage.check_writable(config.reports, "--reports")

    def end(code: ExitCode) -> ExitCode:
        counts = {"surveys": len(surveys), "nothing_new": len(surveys) - new}
        summary = {"exit_code": code, **counts, "seconds": round(time.monotonic() - started, 1)}
        _save_run(config, run_id, summary | {"outcomes": [asdict(outcome) for outcome in outcomes]})
        _print_summary(outcomes, len(surveys) - new)
        return code

    with _ray_for(config, due):
        try:
            for number, plan in enumerate(due, 1):
                print(f"\n{number} of {len(due)}: survey {plan.partition.survey!r}", flush=True)
                outcomes.append(_turn(config, plan, known))
        except KeyboardInterrupt:
            end(ExitCode.INTERRUPTED)
            raise
    return end(_one_code(config, [outcome.code for outcome in outcomes]))


def _surveys(config: NightlyConfig) -> list[str]:
    """The folders to look at. A folder without an image, such as an upload that has not begun, is skipped."""
    surveys = []
    for name in find_surveys(config.root, config.surveys, config.newest):
        address = storage.join(config.root, name)
        if address == config.out:
            continue
        if holds_images(address, config.drivers):
            surveys.append(name)
        else:
            logs.warning(one_line(f"passed over: {address} holds no image"), survey=name)
    if not surveys:
        raise InputError(f"no folder of ROOT {config.root} that is asked for holds an image")
    return surveys


def _look(
    config: NightlyConfig, bundle: Bundle, surveys: Sequence[str], known: Known
) -> tuple[list[ScorePlan], list[Outcome]]:
    """Plans of the surveys that have work, and outcomes of those that could not be planned."""
    due, outcomes = [], []
    for survey in surveys:
        try:
            _check_folder_name(survey)
            plan = plan_scoring(config.of_survey(survey), bundle)
        except InputError as error:
            outcomes.append(_failed(config, survey, error))
            continue
        if plan.has_work or not is_told(known.partitions.get(plan.partition), config.report(survey)):
            due.append(plan)
    return due, outcomes


def _check_folder_name(survey: str) -> None:
    """Raises InputError, with a remedy, for a folder name that cannot be the name of a survey."""
    try:
        check_survey_name(survey)
    except InputError:
        raise InputError(
            f"folder {survey!r} cannot be a survey, since its name holds one of / \\ = * ? [ ]: rename it"
        ) from None


def _describe(config: NightlyConfig, due: Sequence[ScorePlan], outcomes: Sequence[Outcome]) -> ExitCode:
    """Print what a run would do."""
    with _ray_for(config, due):
        for plan in due:
            if plan.has_work:
                score(plan.config, plan)
            else:
                print(f"{plan}; to be published and reported")
    return _one_code(config, [outcome.code for outcome in outcomes])


def _ray_for(config: NightlyConfig, due: Sequence[ScorePlan]) -> AbstractContextManager[None]:
    """One Ray session for everything that has to be scored, if there is anything."""
    return ray_session(debug=config.debug) if any(plan.to_score for plan in due) else nullcontext()


def _turn(config: NightlyConfig, plan: ScorePlan, known: Known) -> Outcome:
    """Score, publish and report one survey. Every error becomes an outcome."""
    partition, started = plan.partition, time.monotonic()
    try:
        codes = [score(plan.config, plan)] if plan.has_work else []
        page, code = publish_and_report(config, partition)
        counts = count_since(known, partition)
    except Exception as error:  # noqa: BLE001 - one survey must not cost the others their turn
        return _failed(config, partition.survey, error)
    return Outcome(
        partition.survey,
        _one_code(config, [*codes, code]),
        **asdict(counts),
        left_alone=plan.images - plan.left,
        seconds=round(time.monotonic() - started, 1),
        report=page,
    )


def _failed(config: NightlyConfig, survey: str, error: Exception) -> Outcome:
    wrong = isinstance(error, InputError)
    problem = reason_of(error) if isinstance(error, InputError | OSError) else failure_of(error)
    logs.error(f"survey {survey!r}: error: {problem}", trace=config.debug)
    return Outcome(survey, ExitCode.WRONG_INPUT if wrong else ExitCode.INTERNAL_ERROR, problem=problem)


def _one_code(config: NightlyConfig, codes: Sequence[ExitCode]) -> ExitCode:
    """The worst of the exit codes. Failed images do not count if they are allowed."""
    ranked = [ExitCode.INTERNAL_ERROR, ExitCode.WRONG_INPUT]
    ranked += [] if config.allow_failed_images else [ExitCode.SOME_IMAGES_FAILED]
    return next((code for code in ranked if code in codes), ExitCode.DONE)


def _save_run(config: NightlyConfig, run_id: str, summary: dict[str, Any]) -> None:
    record = {"run_id": run_id, "command": "nightly", "config": config.saved(), "summary": summary}
    storage.put_text(run_file(config.out, run_id), json.dumps(record, indent=2) + "\n")


def _print_summary(outcomes: Sequence[Outcome], nothing_new: int) -> None:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in ("survey", "ended", "scored", "failed", "left alone", "tiles", "anomalous", "seconds", "report"):
        table.add_column(name, justify="left" if name in ("survey", "ended", "report") else "right", no_wrap=True)
    for one in outcomes:
        ended = one.code.name.lower().replace("_", " ")
        numbers = (one.scored, one.failed, one.left_alone, one.tiles, one.anomalous_tiles, round(one.seconds))
        table.add_row(one.survey, ended, *map(str, numbers), one.report or one.problem or "")
    print(flush=True)
    Console(width=10_000, markup=False, highlight=False, emoji=False).print(table)
    if nothing_new:
        print(f"nothing new in {count(nothing_new, 'more survey')}")
