"""The line that `ssvq findings` prints about a table."""

from collections import Counter
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from ssvq.scores.choose import count


class Summary:
    """Counts findings, which come by whole images."""

    def __init__(self) -> None:
        self.findings = self.images = self.of_known_area = 0
        self.square_metres = 0.0
        self.is_estimate = False
        self.severities: Counter[str] = Counter()

    def add(self, rows: pa.Table) -> None:
        """Count rows of FINDINGS: all rows of their images."""
        self.findings += len(rows)
        self.images += len(pc.unique(rows["image_id"]))
        self.of_known_area += len(rows) - rows["area_m2"].null_count
        self.square_metres += pc.sum(rows["area_m2"]).as_py() or 0.0
        self.is_estimate |= "camera" in rows["area_from"].unique().to_pylist()
        self.severities.update(rows["severity"].to_pylist())

    def told(self, images: int, order: Sequence[str]) -> str:
        """`3 findings in 2 of 10 images: 1 severe, 2 minor; 0.4 square metres`. `images`: how many were searched."""
        if not self.findings:
            return f"no finding in {count(images, 'image')}: no cell is at or over the threshold"
        by_severity = ", ".join(f"{self.severities[name]:,} {name}" for name in order if self.severities[name])
        about = "about " if self.is_estimate else ""
        area = f"; {about}{self.square_metres:,.3g} square metres" if self.of_known_area else ""
        if self.is_estimate:
            area += " (estimated from the camera's notes)"
        unknown = self.findings - self.of_known_area
        lacking = f", without {count(unknown, 'finding')} of unknown area" if area and unknown else ""
        found = f"{count(self.findings, 'finding')} in {self.images:,} of {count(images, 'image')}"
        return f"{found}: {by_severity}{area}{lacking}"
