"""What counts as done."""

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssvq.errors import InputError
from ssvq.imagery.catalog import SourceImage
from ssvq.io import storage
from ssvq.scores.layout import Partition, check_survey_name
from ssvq.scores.ledger import LedgerWriter, check_survey_root, not_done, read_ledger, read_state
from tests.support.rows import row_of

IMAGE = SourceImage("/survey-root/a.png", "a.png", "v1", 10)


def note(partition: Partition, **changes: Any) -> dict[str, Any]:
    """Put an object for the image; returns the row that says so."""
    info = storage.put(partition.score_map(IMAGE.image_id), b"PAR1")
    return {
        "survey": partition.survey,
        "survey_root": "/survey-root",
        "image_id": IMAGE.image_id,
        "fingerprint": IMAGE.fingerprint,
        "model_id": partition.model_id,
        "tiling_id": partition.tiling_id,
        "run_id": "run",
        "recorded_at": 1,
        "status": "scored",
        "object_version": info.version,
    } | changes


def left(partition: Partition, *rows: dict[str, Any]) -> list[SourceImage]:
    """What is left to do after these rows were noted."""
    with LedgerWriter(partition.out, "run") as writer:
        for row in rows:
            writer.add(row_of(row))
    return not_done([IMAGE], read_state(read_ledger(partition.out, partition.survey), partition))


@pytest.fixture
def partition(tmp_path: Path) -> Partition:
    return Partition(str(tmp_path), "survey", "model", "512-512-shift")


def test_a_scored_image_is_done(partition: Partition) -> None:
    assert left(partition, note(partition)) == []


@pytest.mark.parametrize(
    "change",
    [
        {"status": "failed"},
        {"fingerprint": "v0"},
        {"object_version": "another"},
        {"model_id": "another"},
        {"tiling_id": "another"},
        {"survey": "another"},
        {"image_id": "another"},
    ],
)
def test_anything_else_is_not(partition: Partition, change: dict[str, str]) -> None:
    assert left(partition, note(partition, **change)) == [IMAGE]


def test_a_lost_object_is_not_done(partition: Partition) -> None:
    row = note(partition)
    storage.remove(partition.score_map(IMAGE.image_id))
    assert left(partition, row) == [IMAGE]


def test_the_latest_row_counts_whatever_the_order(partition: Partition) -> None:
    done = note(partition, recorded_at=2)
    assert left(partition, done, {**done, "recorded_at": 1, "status": "failed"}) == []
    assert left(partition, {**done, "recorded_at": 3, "status": "failed"}) == [IMAGE]


def test_no_row_is_lost_when_a_run_ends_by_an_error(partition: Partition) -> None:
    def interrupted_run() -> None:
        with LedgerWriter(partition.out, "run") as writer:
            writer.add(row_of(note(partition)))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted_run()
    assert read_ledger(partition.out, "survey").num_rows == 1


def test_a_damaged_segment_is_named(partition: Partition) -> None:
    storage.put(f"{partition.out}/images/torn.parquet", b"PAR1 torn")
    with pytest.raises(InputError, match=r"torn\.parquet"):
        read_ledger(partition.out, "survey")


def test_a_segment_that_is_known_is_not_read_again_for_other_surveys(partition: Partition) -> None:
    """Or planning many surveys of one output would read the whole ledger for each."""
    surveys = [f"survey {number}" for number in range(3)]
    for survey in surveys:
        with LedgerWriter(partition.out, survey) as writer:
            writer.add(row_of(note(partition, survey=survey)))
        assert read_ledger(partition.out, survey)["survey"].to_pylist() == [survey]
    (segment,) = Path(partition.out, "images").glob(f"{surveys[0]}-*")
    sound, times = segment.read_bytes(), (segment.stat().st_atime_ns, segment.stat().st_mtime_ns)
    segment.write_bytes(bytes(len(sound)))  # of the same version, as far as can be told
    os.utime(segment, ns=times)
    for survey in surveys[1:]:
        assert read_ledger(partition.out, survey)["survey"].to_pylist() == [survey]
    with pytest.raises(InputError, match="is damaged"):
        read_ledger(partition.out, surveys[0])
    segment.write_bytes(sound)
    with LedgerWriter(partition.out, "later") as writer:
        writer.add(row_of(note(partition, survey=surveys[0])))
    assert read_ledger(partition.out, surveys[0]).num_rows == 2


def test_another_root_is_refused(partition: Partition) -> None:
    ledger = pa.table({"survey_root": ["/survey-root"]})
    check_survey_root(ledger, "survey", "/survey-root")
    with pytest.raises(InputError, match="/survey-root, not /other"):
        check_survey_root(ledger, "survey", "/other")


@given(st.text(max_size=20))
@settings(max_examples=300)
def test_a_survey_name_stays_one_folder_that_readers_open(name: str) -> None:
    try:
        check_survey_name(name)
    except InputError:
        return
    path = Path("/scores/tiles") / name
    assert path.parent == Path("/scores/tiles")
    assert path.name == name
    assert not name.startswith((".", "_"))
    assert not set(name) & set("=*?[]\\")
