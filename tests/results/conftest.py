"""What the tests of results share."""

from pathlib import Path

import pytest

from tests.support.reports import write_survey_scores


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Three scored images, the worst with a hostile name and one on the map; and one that failed."""
    return write_survey_scores(tmp_path)
