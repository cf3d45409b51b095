"""Settings of `ssvq findings`."""

import re
from pathlib import Path

from pydantic import Field, model_validator
from pydantic_settings import CliPositionalArg

from ssvq.settings import Command, Location, Section


class Thresholds(Section):
    """The cell distance from which a region is a finding. Areas of two surveys compare only if these are equal."""

    threshold: float | None
    false_positive_rate: float | None
    hysteresis: float

    def told(self) -> str:
        """`--threshold 0.8 --hysteresis 0.9`."""
        given = {name: value for name, value in self.model_dump().items() if value is not None}
        if given["hysteresis"] == 1:
            del given["hysteresis"]
        flags = " ".join(f"--{name.replace('_', '-')} {value:g}" for name, value in given.items())
        return flags or "the model's own threshold"


class FindingsConfig(Command):
    """Make a table of findings: the connected anomalous regions of each image, with place, area and severity."""

    scores: CliPositionalArg[Location]
    """Folder or s3:

    prefix that `ssvq score --out` wrote; the table is written into it.
    """

    survey: str | None = None
    """Survey whose findings are made (default: every survey)."""

    model_id: str | None = None
    """Model whose scores are taken (default: the latest of each survey)."""

    threshold: float | None = Field(None, gt=0)
    """Cell distance at which a region is a finding (default: the uniform cell distance at which a tile reaches the
    model's threshold).
    """

    false_positive_rate: float | None = Field(None, gt=0, lt=1)
    """Share of normal tiles that may reach the threshold; sets it instead of --threshold."""

    hysteresis: float = Field(1.0, gt=0, le=1)
    """Share of the threshold down to which a region extends around the cells that reach it."""

    smallest: float = Field(0.0, ge=0)
    """Smallest area of a finding, in pixels."""

    gsd: float | None = Field(None, gt=0)
    """Metres on the object per pixel, for images without a georeference (default: an estimate from the camera's notes,
    if a drone wrote its distance).
    """

    severity: Path | None = None
    """YAML file of severities and their bounds (default: the table in docs/guide/findings.md)."""

    previous: str | None = None
    """Earlier survey of the same asset, in the same output, to compare with."""

    pair_pattern: str | None = None
    """Regular expression over image addresses: images of both surveys with the same match (or first group) show the
    same part (default: images of the same ground, else photographs taken from nearly the same place)."""

    same_view: bool = False
    """Images that --pair-pattern pairs show the same view, pixel for pixel: they are not read and not registered."""

    within: float = Field(30.0, gt=0)
    """Largest distance in metres between two photographs, by their EXIF, that may show the same place."""

    unchanged: float = Field(0.1, ge=0)
    """Share of the earlier area by which an area may differ and still be unchanged."""

    reach: float | None = Field(None, ge=0)
    """Pixels between two regions that still count as one place (default: a cell plus the error of registration)."""

    @model_validator(mode="after")
    def _one_threshold(self) -> "FindingsConfig":
        if self.threshold is not None and self.false_positive_rate is not None:
            raise ValueError("--threshold and --false-positive-rate exclude each other")
        return self

    @model_validator(mode="after")
    def _one_comparison(self) -> "FindingsConfig":
        if self.previous is None:
            given = self.model_fields_set & {"pair_pattern", "same_view", "within", "unchanged", "reach"}
            if given:
                raise ValueError(f"--{min(given).replace('_', '-')} goes with --previous")
            return self
        if self.survey is None:
            raise ValueError("--previous goes with --survey, the survey that is compared with it")
        if self.survey == self.previous:
            raise ValueError(f"--previous {self.previous} is the survey itself: name an earlier one of the same asset")
        if self.same_view and self.pair_pattern is None:
            raise ValueError("--same-view goes with --pair-pattern, which says which images show one view")
        try:
            re.compile(self.pair_pattern or "")
        except re.error as error:
            raise ValueError(f"--pair-pattern {self.pair_pattern!r} is not a regular expression: {error}") from None
        return self

    @property
    def thresholds(self) -> Thresholds:
        """The settings on which areas depend."""
        return Thresholds(
            threshold=self.threshold, false_positive_rate=self.false_positive_rate, hysteresis=self.hysteresis
        )
