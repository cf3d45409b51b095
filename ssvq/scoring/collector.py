"""Collects scored parts: writes each image once all its parts are there, and adds its row to the ledger."""

import time
from collections import Counter

from ssvq.imagery.catalog import SourceImage
from ssvq.io.storage import StorageError
from ssvq.logs import FailedImages
from ssvq.runtime.telemetry import ScoringMetrics
from ssvq.scores.ledger import LedgerWriter
from ssvq.scores.ledger_row import LedgerRow
from ssvq.scoring.outcome import PartOutcome
from ssvq.scoring.writer import ScoringRun, join_parts

SUMMED = ("tiles", "skipped_tiles", "anomalous_tiles", "object_bytes")


class Collector:
    """Takes OUTCOME rows in any order, and logs each image that fails.

    `totals` counts images by status and sums the columns of SUMMED. `changed` lists the images that changed between
    listing and reading. `decoders` counts images by decoder. `more_pages` counts the pages of TIFFs that are not read.
    """

    def __init__(self, run: ScoringRun, ledger: LedgerWriter) -> None:
        self.run, self.ledger = run, ledger
        self.totals: Counter[str] = Counter()
        self.decoders: Counter[str] = Counter()
        self.more_pages = 0
        self.changed: list[SourceImage] = []
        self.failures = FailedImages()
        self.metrics = ScoringMetrics(run.partition.survey, run.run_id)
        self._waiting: dict[str, list[PartOutcome]] = {}

    def take(self, outcome: PartOutcome) -> float:
        """Take one outcome. If it is the last part of an image, write the image.

        Returns the share of the image that this part covers. Raises StorageError if the image cannot be written.
        """
        if outcome.storage_error is not None:
            raise StorageError(outcome.storage_error)
        part, row = outcome.part, outcome.ledger
        self.metrics.count_part(
            tiles=row.tiles if row else 0,
            anomalous_tiles=row.anomalous_tiles if row else 0,
            size=part.source.size / part.count if part.header else 0.0,  # without a header no file was read
            seconds={"read": outcome.read_seconds, "score": outcome.score_seconds, "write": outcome.write_seconds},
        )
        if part.count == 1:
            self._end(part.source, row)
            return 1.0
        gathered = self._waiting.setdefault(part.source.image_id, [])
        gathered.append(outcome)
        if len(gathered) == part.count:
            started = time.perf_counter()
            row = join_parts(self._waiting.pop(part.source.image_id), self.run)
            self.metrics.count_seconds("write", time.perf_counter() - started)
            self._end(part.source, row)
        self.metrics.set_queue("parts to join", sum(map(len, self._waiting.values())))
        return 1 / part.count

    def _end(self, source: SourceImage, row: LedgerRow | None) -> None:
        if row is None:
            self.changed.append(source)
            return
        self.ledger.add(row)
        self.totals[row.status] += 1
        if row.decoder is not None:
            self.decoders[row.decoder] += 1
        self.totals.update({name: getattr(row, name) for name in SUMMED})
        self.more_pages += (row.pages or 1) - 1
        self.metrics.count_image(row.error_stage)
        self.metrics.set_queue("ledger rows", len(self.ledger.rows))
        if row.status == "failed":
            image, stage, reason = row.image_uri, row.error_stage, row.error_message
            self.failures.add(f"failed {image} ({stage}): {reason}", image=image, stage=stage, reason=reason)
