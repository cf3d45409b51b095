"""The figures of a training, as a person finds them."""

import json
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event

from ssvq.training.metrics_log import FigureLog


def lines(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def events(out: Path) -> dict[tuple[str, int], float]:
    """Scalars by name and step of the one TensorBoard file: records of length, checksum, protobuf, checksum."""
    (file,) = (out / "tensorboard").iterdir()
    data, found, at = file.read_bytes(), {}, 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 8], "little")
        event = Event.FromString(data[at + 12 : at + 12 + length])
        found.update({(value.tag, event.step): value.simple_value for value in event.summary.value})
        at += 16 + length
    return found


def test_figures_are_kept_as_lines_and_as_events(tmp_path: Path) -> None:
    with FigureLog(str(tmp_path)) as log:
        log.add({"step": 10, "time": 1e9, "loss": 2.0})
        log.add({"step": 20, "time": 1e9, "loss": 1.5, "validation_auroc": 0.75})
        assert [line["step"] for line in lines(tmp_path)] == [10, 20], "put at a validation already"
        log.add({"step": 30, "time": 1e9, "loss": 1.25})
    assert [line["loss"] for line in lines(tmp_path)] == [2.0, 1.5, 1.25]
    assert events(tmp_path) == {
        ("loss", 10): 2.0,
        ("loss", 20): 1.5,
        ("validation_auroc", 20): 0.75,
        ("loss", 30): 1.25,
    }


def test_steps_that_are_repeated_replace_those_after_them(tmp_path: Path) -> None:
    with FigureLog(str(tmp_path)) as log:
        for step in (10, 20, 30):
            log.add({"step": step, "time": 1e9, "loss": float(step)})
    with FigureLog(str(tmp_path)) as log:
        assert log.last_step == 30
        log.add({"step": 20, "time": 1e9, "loss": 0.5})
    assert [(line["step"], line["loss"]) for line in lines(tmp_path)] == [(10, 10.0), (20, 0.5)]
    assert events(tmp_path)["loss", 20] == pytest.approx(0.5)
