"""`ssvq findings`: score maps in, a table of findings beside them out. No image, model or cluster is needed."""

import multiprocessing
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import groupby
from typing import Any

import pyarrow as pa

from ssvq import logs
from ssvq.errors import ExitCode, InputError, reason_of
from ssvq.io import parquet, storage
from ssvq.progress import Progress
from ssvq.results.findings.settings import FindingsConfig
from ssvq.results.findings.severity import order_of, read_rules, severity_of
from ssvq.results.findings.table import Bounds, findings_of
from ssvq.scores.choose import choose_images, count
from ssvq.scores.findings import FINDINGS
from ssvq.scores.layout import Partition
from ssvq.scores.objects import HeatScale, read_heat_scale, score_at_rate

AT_ONCE = 32  # images of a task of a process
ALONE = 200  # images for which processes are not worth their start


def findings(config: FindingsConfig) -> ExitCode:
    """Make the table of each survey anew, and say what is in it.

    Raises InputError when there is nothing to read, when a score map is damaged, and when the table cannot be put.
    """
    rules = read_rules(config.severity)
    order = order_of(rules)
    choice = choose_images(config.scores, None, config.survey, config.model_id)
    for (survey, model_id, tiling_id), group in groupby(choice.images, key=_partition_of):
        images = list(group)
        partition = Partition(config.scores, survey, model_id, tiling_id)
        rows = list(_all_findings(config, model_id, images))
        for row in rows:
            row["severity"] = severity_of(row, rules)
        rows.sort(key=lambda row: _worst_first(row, order))
        try:
            parquet.put(partition.findings, pa.Table.from_pylist(rows, FINDINGS))
        except storage.StorageError as error:
            raise InputError(f"{partition.findings} cannot be written: {reason_of(error)}") from None
        print(f"survey {survey!r}: {_summary(rows, images, order)}")
        print(f"table: {partition.findings}")
    for line in choice.left_out:
        logs.warning(f"left out: {line}")
    return ExitCode.DONE


def _worst_first(row: dict[str, Any], order: Sequence[str]) -> tuple[Any, ...]:
    return order.index(row["severity"]), -row["times_threshold"], -row["area_pixels"], row["finding_id"]


def _partition_of(image: dict[str, Any]) -> tuple[str, str, str]:
    return image["survey"], image["model_id"], image["tiling_id"]


def _all_findings(config: FindingsConfig, model_id: str, images: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Those of all images of a partition, in their order; many are shared among processes."""
    scale = read_heat_scale(config.scores, model_id)
    rate = config.false_positive_rate
    score = None if rate is None else score_at_rate(config.scores, model_id, rate)
    bounds = Bounds(config.threshold, score, config.hysteresis, config.smallest, config.gsd)
    work = partial(_findings_of_some, config.scores, scale=scale, bounds=bounds, timeout=config.storage_timeout)
    with Progress("finding", len(images), "images") as progress:
        if len(images) <= ALONE:
            for image in images:
                yield from work([image])
                progress.advance(1)
            return
        some = [images[start : start + AT_ONCE] for start in range(0, len(images), AT_ONCE)]
        with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
            for done, found in zip(some, pool.map(work, some), strict=True):
                yield from found
                progress.advance(len(done))


def _findings_of_some(
    scores: str, images: Sequence[dict[str, Any]], *, scale: HeatScale, bounds: Bounds, timeout: float
) -> list[dict[str, Any]]:
    storage.set_timeout(timeout)
    return [row for image in images for row in findings_of(scores, image, scale, bounds)]


def _summary(rows: Sequence[dict[str, Any]], images: Sequence[dict[str, Any]], order: Sequence[str]) -> str:
    """`3 findings in 2 of 10 images: 1 severe, 2 minor; 0.4 square metres`."""
    if not rows:
        return f"no finding in {count(len(images), 'image')}: no cell is at or over the threshold"
    having = len({row["image_id"] for row in rows})
    numbers = Counter(row["severity"] for row in rows)
    by_severity = ", ".join(f"{numbers[name]:,} {name}" for name in order if numbers[name])
    areas = [row["area_m2"] for row in rows]
    known = [area for area in areas if area is not None]
    area = f"; {sum(known):,.3g} square metres" if known else ""
    lacking = (
        f", without {count(len(areas) - len(known), 'finding')} of unknown area" if 0 < len(known) < len(areas) else ""
    )
    return f"{count(len(rows), 'finding')} in {having:,} of {count(len(images), 'image')}: {by_severity}{area}{lacking}"
