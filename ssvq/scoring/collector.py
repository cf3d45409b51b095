"""What becomes of scored parts: whole images are put, and each ends as one row of the ledger."""

import sys
from collections import Counter
from typing import Any

from ssvq.errors import ImageError
from ssvq.imagery.catalog import SourceImage
from ssvq.imagery.units import ImagePart
from ssvq.scoring.ledger import LedgerWriter
from ssvq.scoring.schema import SCORE_MAP
from ssvq.scoring.writer import ScoredImage, ScoringRun, join_parts, put_image
from ssvq.storage import StorageError

FAILURES_SHOWN = 20
SUMMED = ("tiles", "skipped_tiles", "anomalous_tiles", "object_bytes")


class Collector:
    """Takes OUTCOME rows in any order. `totals` counts images by status, and sums what SUMMED names; `changed` are
    the images that were no longer what was listed when they were to be put.
    """

    def __init__(self, run: ScoringRun, ledger: LedgerWriter) -> None:
        self.run, self.ledger = run, ledger
        self.totals: Counter[str] = Counter()
        self.changed: list[SourceImage] = []
        self._waiting: dict[str, list[dict[str, Any]]] = {}

    def take(self, outcome: dict[str, Any]) -> None:
        """Note an image that has been put; put one whose last part this is. Raises StorageError when it cannot be."""
        if outcome["storage_error"] is not None:
            raise StorageError(outcome["storage_error"])
        part = ImagePart.from_json(outcome["part"])
        if part.count == 1:
            self._end(part.source, outcome["ledger"])
            return
        gathered = self._waiting.setdefault(part.source.image_id, [])
        gathered.append(outcome)
        if len(gathered) == part.count:
            self._end(part.source, join_parts(self._waiting.pop(part.source.image_id), self.run))

    def fail(self, source: SourceImage, error: ImageError) -> None:
        """Put and note an image of which not even the header can be read."""
        self._end(source, put_image(self.run, ScoredImage(source, None, SCORE_MAP.empty_table(), error, 0, 0.0)))

    def _end(self, source: SourceImage, row: dict[str, Any] | None) -> None:
        if row is None:
            self.changed.append(source)
            return
        self.ledger.add(row)
        self.totals[row["status"]] += 1
        self.totals.update({name: row[name] for name in SUMMED})
        if row["status"] == "failed" and self.totals["failed"] <= FAILURES_SHOWN:
            print(f"failed {row['image_uri']} ({row['error_stage']}): {row['error_message']}", file=sys.stderr)
