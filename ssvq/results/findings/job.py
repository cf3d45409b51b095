"""`ssvq findings`: reads score maps and writes a table of findings beside them.

It needs no model and no cluster. It reads images only to register photographs with those of an earlier survey.
"""

import json
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from ssvq import logs
from ssvq.errors import ExitCode, InputError, reason_of
from ssvq.io import storage
from ssvq.results.findings.change.image import Tolerance
from ssvq.results.findings.change.since import Since
from ssvq.results.findings.decisions import read_decisions
from ssvq.results.findings.settings import FindingsConfig
from ssvq.results.findings.severity import SeverityRule, order_of, read_rules
from ssvq.results.findings.sorted_rows import SortedRows
from ssvq.results.findings.states import Decided
from ssvq.results.findings.stored import told_states
from ssvq.results.findings.summary import Summary
from ssvq.results.findings.table import Bounds
from ssvq.results.findings.work import Comparing, Found, Item, Shares, Work, share
from ssvq.scores.choose import choose_images, count
from ssvq.scores.data_set import Scores
from ssvq.scores.layout import Partition
from ssvq.scores.ledger_row import ImageRow
from ssvq.scores.objects import read_heat_scale, read_pixel_rule, score_at_rate, temporary_folder
from ssvq.scores.partitions import METADATA

SHARES = Shares()
SHARES_OF_PHOTOGRAPHS = Shares(at_once=4, alone=8)  # photographs, which are read and registered


def findings(config: FindingsConfig) -> ExitCode:
    """Make the table of each survey again, and print its summary.

    The exit code tells whether source images could not be read; they are named. Raises InputError, and writes nothing,
    if there is nothing to read, a score map or a decision is damaged, the surveys cannot be compared, or a table cannot
    be written.
    """
    rules = read_rules(config.severity)
    with Scores(config.scores) as known:
        states = {info.partition: info.state for info in known.partitions()}
    choice = choose_images(config.scores, None, config.survey, config.model_id)
    code = ExitCode.DONE
    for partition, group in groupby(choice.images, key=lambda image: image.partition(config.scores)):
        images = list(group)
        with temporary_folder(config.scores) as folder:
            since = None if config.previous is None else Since(config, partition, images, folder)
            decided = Decided(read_decisions(config.scores, partition.survey))
            described = {METADATA: json.dumps({"state": states.get(partition)} | _settings(config))}
            summary = _make(config, partition, images, since, rules, decided, described, folder)
        print(f"survey {partition.survey!r}: {summary.told(len(images), order_of(rules))}")
        _tell_decisions(decided)
        print(f"table: {partition.findings}")
        if since is not None:
            print(since.told())
            print(f"what is gone: {partition.gone}")
            for line in since.warnings():
                logs.warning(line)
            code = ExitCode.SOME_IMAGES_FAILED if since.unread else code
    for line in choice.left_out:
        logs.warning(f"left out: {line}")
    return code


def _tell_decisions(decided: Decided) -> None:
    """Print the counts of people's decisions, and how many of them match no finding."""
    if decided.states.keys() - {"new"}:
        print(f"by earlier decisions, {told_states(decided.states)}")
    unused = sum(decision.state != "new" for decision in decided.left)
    if unused:
        print(
            f"{count(unused, 'earlier decision')} {'is' if unused == 1 else 'are'} about no finding of this table: the "
            "region is under the threshold now, or its image has changed"
        )


def _settings(config: FindingsConfig) -> dict[str, Any]:
    """Settings that a later comparison must share."""
    return {"thresholds": config.thresholds.model_dump()}


def _make(
    config: FindingsConfig,
    partition: Partition,
    images: Sequence[ImageRow],
    since: Since | None,
    rules: list[SeverityRule],
    decided: Decided,
    described: dict[bytes, str],
    folder: Path,
) -> Summary:
    """Make and write the tables of a partition. `described`: metadata of the files."""
    order, summary = order_of(rules), Summary()
    with SortedRows(folder / "findings") as rows, SortedRows(folder / "gone") as gone:
        shown = iter(images)
        for found in _all_found(config, partition, images, since, rules):
            summary.add(found.rows)
            rows.add(decided.fill(found.rows))
            if since is not None:
                for outcome in found.outcomes:
                    since.add(next(shown), outcome)
        if since is not None:
            for table in since.gone():
                gone.add(table)
            _put(partition.gone, gone.written(order, described))
        elif storage.exists(partition.gone):
            storage.remove(partition.gone)
            logs.warning(
                f"the findings of {partition.survey!r} are no longer compared with an earlier survey: "
                "give --previous to compare them again"
            )
        _put(partition.findings, rows.written(order, described))
    return summary


def _put(address: str, file: Path) -> None:
    try:
        storage.put_file(address, file)
    except storage.StorageError as error:
        raise InputError(f"{address} cannot be written: {reason_of(error)}") from None


def _all_found(
    config: FindingsConfig,
    partition: Partition,
    images: Sequence[ImageRow],
    since: Since | None,
    rules: list[SeverityRule],
) -> Iterator[Found]:
    """The findings of all images of a partition, in their order."""
    rate = config.false_positive_rate
    score = None if rate is None else score_at_rate(config.scores, partition.model_id, rate)
    bounds = Bounds(config.threshold, score, config.hysteresis, config.smallest, config.gsd)
    scale = read_heat_scale(config.scores, partition.model_id)
    if since is None:
        work = Work(config.scores, scale, bounds, rules, config.storage_timeout)
        return share(work, images, lambda index: Item(images[index]), SHARES)
    tolerance = Tolerance(config.unchanged, config.reach)
    comparing = Comparing(since.name, read_pixel_rule(config.scores, partition.model_id), tolerance)
    work = Work(config.scores, scale, bounds, rules, config.storage_timeout, comparing)
    shares = SHARES_OF_PHOTOGRAPHS if since.registers else SHARES
    return share(work, images, lambda index: Item(images[index], since.candidates(index)), shares)
