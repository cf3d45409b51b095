"""The lines of progress in a log."""

import re
from collections.abc import Callable

import pytest

from ssvq.progress import Progress


def clock_of(seconds: float) -> Callable[[], float]:
    """A clock that goes on by so much each time it is looked at."""
    times = iter(seconds * i for i in range(100))
    return lambda: next(times)


def lines(capsys: pytest.CaptureFixture[str], seconds: float) -> list[str]:
    """What is said of four things that take so long each."""
    with Progress("work", 4, "things", seconds=0, clock=clock_of(seconds)) as bar:
        for _ in range(4):
            bar.advance(1, "note")
    return capsys.readouterr().err.splitlines()


def test_fast_work_has_a_rate_by_second(capsys: pytest.CaptureFixture[str]) -> None:
    said = lines(capsys, 0.25)
    assert re.fullmatch(r"work: 1 of 4 things, 4\.0 a second, 0:00:01 left; note", said[0])
    assert said[-1] == "work: 4 of 4 things, 4.0 a second; note"


def test_slow_work_has_a_rate_by_minute_and_the_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    assert lines(capsys, 90)[1] == "work: 2 of 4 things, 0.7 a minute, 0:03:00 left; note"


def test_lines_come_now_and_then_and_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("work", 30, "things", seconds=10, clock=clock_of(1)) as bar:
        for _ in range(30):
            bar.advance(1)
    said = capsys.readouterr().err
    assert re.findall(r"work: (\d+) of 30", said) == ["10", "20", "30"]


def test_what_an_earlier_run_did_says_nothing_of_the_speed(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("work", 100, "things", seconds=0, clock=clock_of(1)) as bar:
        bar.begin_at(90)
        bar.advance(1)
    assert capsys.readouterr().err == "work: 91 of 100 things, 1.0 a second, 0:00:09 left\n"
