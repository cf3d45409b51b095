"""Lines on standard error, as text and as JSON objects, and what is kept out of both."""

import json
import logging
import subprocess
import sys
import warnings
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from ssvq import cli, logs
from ssvq.errors import ExitCode
from ssvq.logs import FAILURES_SHOWN, FailedImages
from ssvq.progress import Progress
from ssvq.redaction import redact

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def text_afterwards() -> Iterator[None]:
    yield
    logs.set_up("text")


def objects(capsys: Capture) -> list[dict[str, Any]]:
    """Standard error, every line of which must be an object with what each object has."""
    found = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    for one in found:
        assert datetime.fromisoformat(one["time"]).tzinfo is not None
        assert one["level"] in ("INFO", "WARNING", "ERROR")
        assert one["message"]
    return found


def fail(number: int) -> None:
    failures = FailedImages()
    for i in range(number):
        failures.add(f"failed {i}.png (read): is torn", image=f"{i}.png", stage="read", reason="is torn")
    failures.end()


def test_as_text_a_line_is_its_message(capsys: Capture) -> None:
    logs.bind(run_id="run-1", survey="north")
    logs.warning("100% of 3 tiles", image="a.png")
    logs.info("more")
    assert capsys.readouterr().err == "100% of 3 tiles\nmore\n"


def test_as_json_a_line_has_its_fields_and_those_that_are_bound(capsys: Capture) -> None:
    logs.set_up("json")
    logs.info("begins")
    logs.bind(run_id="run-1", survey="north")
    logs.warning('odd "name"\nof two lines \udcff', image="grün.png")
    begins, odd = objects(capsys)
    assert set(begins) == {"time", "level", "message"}
    assert {name: odd[name] for name in ("level", "run_id", "survey", "image")} == {
        "level": "WARNING",
        "run_id": "run-1",
        "survey": "north",
        "image": "grün.png",
    }
    assert odd["message"] == 'odd "name"\nof two lines \udcff'


def test_what_was_bound_ends_with_the_command(capsys: Capture) -> None:
    logs.bind(survey="north")
    assert cli.main(["query", "nowhere", "SELECT 1", "--log-format", "json"]) == ExitCode.WRONG_INPUT
    (line,) = objects(capsys)
    assert "survey" not in line


def test_many_failures_do_not_bury_a_person_and_all_are_in_json(capsys: Capture) -> None:
    fail(1000)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "failed 0.png (read): is torn"
    assert lines[FAILURES_SHOWN:] == [f"... and {1000 - FAILURES_SHOWN} more"]
    fail(FAILURES_SHOWN)
    assert len(capsys.readouterr().err.splitlines()) == FAILURES_SHOWN
    logs.set_up("json")
    fail(1000)
    found = objects(capsys)
    assert [line["image"] for line in found] == [f"{i}.png" for i in range(1000)]
    assert {(line["level"], line["stage"], line["reason"]) for line in found} == {("WARNING", "read", "is torn")}


def test_progress_is_an_object_with_its_numbers(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    logs.set_up("json")
    with Progress("scoring", 4, "tiles") as progress:
        progress.advance(4, "a note")
    (line,) = objects(capsys)
    assert line["message"].startswith("scoring: 4 of 4 tiles")
    assert (line["done"], line["total"], line["unit"]) == (4, 4, "tiles")


def test_warnings_of_libraries_are_objects_too(capsys: Capture) -> None:
    logs.set_up("json")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        logging.captureWarnings(True)
        warnings.warn("is deprecated", stacklevel=1)
    logging.getLogger("some.library").warning("is slow")
    deprecated, slow = objects(capsys)
    assert "UserWarning: is deprecated" in deprecated["message"]
    assert slow["message"] == "is slow"


@pytest.mark.parametrize("how", ["flag", "flag=", "environment", "file"])
def test_the_setting_holds_for_every_line(
    how: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = {"flag": ["--log-format", "json"], "flag=": ["--log-format=json"], "file": ["--config", "c.yaml"]}
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text("log_format: json")
    if how == "environment":
        monkeypatch.setenv("SSVQ_LOG_FORMAT", "json")
    assert cli.main(["query", "nowhere", "SELECT 1", *arguments.get(how, [])]) == ExitCode.WRONG_INPUT
    (line,) = objects(capsys)
    assert line["level"] == "ERROR"
    assert line["message"].startswith("ssvq query: error: ")


@pytest.mark.parametrize("arguments", [["fly"], ["train", "--stepz", "3"], ["train", "--steps", "many"]])
def test_wrong_settings_are_an_object_as_well(arguments: list[str], capsys: Capture) -> None:
    assert cli.main([*arguments, "--log-format", "json"]) == ExitCode.WRONG_INPUT
    (line,) = objects(capsys)
    assert line["message"].startswith("ssvq")


def test_a_traceback_is_part_of_its_object(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(config: object) -> ExitCode:
        raise KeyError("inside")

    monkeypatch.setattr("ssvq.results.query.query", broken)
    cli.main(["query", "s", "q", "--debug", "--log-format", "json"])
    (line,) = objects(capsys)
    assert "Traceback" in line["exc_info"]
    cli.main(["query", "s", "q", "--debug"])
    text = capsys.readouterr().err.splitlines()
    assert text[0].startswith("Traceback")
    assert text[-1].startswith("ssvq query: error: KeyError")


def test_processes_that_a_command_starts_write_as_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    logs.set_up("json")
    code = "from ssvq import logs; logs.warning('waiting')"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(child.stderr)["message"] == "waiting"


@pytest.mark.parametrize(
    ("text", "without"),
    [
        ("http://user:p@ssword@host:9000/x is down", "http://host:9000/x is down"),
        ("s3://bucket/a@b.png", "s3://bucket/a@b.png"),
        ("https://h/x?X-Amz-Signature=abc&a=1 failed", "https://h/x?X-Amz-Signature=***&a=1 failed"),
        ("'https://h/x?AWSAccessKeyId=k&Signature=s%3D&Expires=1'", "'https://h/x?AWSAccessKeyId=***&Signature=***&Expires=1'"),
        ("the key AKIAIOSFODNN7EXAMPLE is unknown", "the key *** is unknown"),
        ("given: top/secret+key", "given: ***"),
    ],
)  # fmt: skip
def test_credentials_are_left_out(text: str, without: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "top/secret+key")
    assert redact(text) == without
    logs.warning(text)
    assert capsys.readouterr().err == f"{without}\n"


def test_a_short_key_does_not_spoil_every_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "tiles")
    assert redact("4 tiles") == "4 tiles"
