"""The lines of progress in a log."""

import re

import pytest

from ssvq import progress
from ssvq.progress import Progress


def lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, seconds: float) -> list[str]:
    """What is said of four things that take so long each."""
    clock = iter(seconds * i for i in range(100))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    with Progress("work", 4, "things") as bar:
        for _ in range(4):
            bar.advance(1, "note")
    return capsys.readouterr().err.splitlines()


def test_fast_work_has_a_rate_by_second(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    said = lines(capsys, monkeypatch, 0.25)
    assert re.fullmatch(r"work: 1 of 4 things, 4\.0 a second, 0:00:01 left; note", said[0])
    assert said[-1] == "work: 4 of 4 things, 4.0 a second; note"


def test_slow_work_has_a_rate_by_minute_and_the_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = lines(capsys, monkeypatch, 90)
    assert said[1] == "work: 2 of 4 things, 0.7 a minute, 0:03:00 left; note"


def test_what_an_earlier_run_did_says_nothing_of_the_speed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(100))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    with Progress("work", 100, "things") as bar:
        bar.begin_at(90)
        bar.advance(1)
    assert capsys.readouterr().err == "work: 91 of 100 things, 1.0 a second, 0:00:09 left\n"
