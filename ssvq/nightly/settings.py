"""Settings of `ssvq nightly`: all surveys under one root."""

from pydantic import Field
from pydantic_settings import CliPositionalArg

from ssvq.io import storage
from ssvq.scoring.settings import ScoreConfig, SurveyScoring
from ssvq.settings import Location, Output


class NightlyConfig(SurveyScoring):
    """Score, publish and report every survey under a root that has something new: one run for a schedule."""

    root: CliPositionalArg[Location]
    """Folder or s3:// prefix whose direct subfolders are the surveys; their names are the names of the surveys."""

    surveys: list[str] | None = None
    """Only surveys whose name matches one of these patterns, such as '2026-*' (default: all)."""

    newest: int | None = Field(None, gt=0)
    """Only this many surveys, the last by name: with dates as names, the newest (default: all)."""

    reports: Output | None = None
    """Folder or s3:// prefix for the page of each survey (default: `reports` in --out)."""

    def report(self, survey: str) -> str:
        """Address of the page of a survey."""
        return storage.join(self.reports or storage.join(self.out, "reports"), f"{survey}.html")

    def of_survey(self, survey: str) -> ScoreConfig:
        """The settings of `ssvq score` for one of the surveys."""
        shared = {name: getattr(self, name) for name in SurveyScoring.model_fields if name != "config"}
        return ScoreConfig(**shared, survey=storage.join(self.root, survey), survey_name=survey, limit=None)
