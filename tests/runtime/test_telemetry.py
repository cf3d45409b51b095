"""What Prometheus is told: the sums of a run, the dashboard that shows them, and a cluster that exports them."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from ssvq.errors import ExitCode
from ssvq.runtime import telemetry as metrics
from ssvq.runtime.telemetry import METRICS, ScoringMetrics, show_training
from ssvq.scores.data_set import Scores
from tests.support import commands
from tests.support.images import REPOSITORY, write_image
from tests.support.surveys import TILE, make_bundle, make_survey

DASHBOARD = REPOSITORY / "cluster" / "grafana.json"
FUNCTIONS = {"avg", "max_over_time", "rate", "sum", "vector"}
WORDS = {"by", "group_left", "on", "or"}


# What is recorded


def test_a_run_is_handed_over_in_sums() -> None:
    recorded: list[tuple[str, float, dict[str, str]]] = []
    with ScoringMetrics("north", "run-1", tell=lambda *one: recorded.append(one), seconds=3600) as run:
        for _ in range(1000):
            run.count_part(tiles=4, anomalous_tiles=0, size=0.5, seconds={"read": 0.25, "score": 0.5, "write": 0.0})
        run.count_image(None)
        run.count_image("read")
        run.set_queue("tiles", 7)
        run.set_queue("tiles", 0)
        assert recorded == [], "nothing is handed over for each part"
    common = {"survey": "north", "run": "run-1"}
    assert recorded == [
        ("ssvq_tiles_scored_total", 4000, common),
        ("ssvq_read_bytes_total", 500, common),
        ("ssvq_stage_seconds_total", 250, common | {"stage": "read"}),
        ("ssvq_stage_seconds_total", 500, common | {"stage": "score"}),
        ("ssvq_images_scored_total", 1, common),
        ("ssvq_images_failed_total", 1, common | {"stage": "read"}),
        ("ssvq_queue_length", 0, common | {"queue": "tiles"}),
    ]


def test_a_long_run_is_handed_over_as_it_goes() -> None:
    seen: list[float] = []
    run = ScoringMetrics("north", "run-1", tell=lambda name, value, tags: seen.append(value), seconds=0)
    for tiles in (3, 4):
        run.count_part(tiles=tiles, anomalous_tiles=0, size=0, seconds={})
    assert seen == [3, 4]


def test_without_ray_nothing_happens() -> None:
    with ScoringMetrics("north", "run-1") as run:
        run.count_image(None)
        run.set_queue("tiles", 1)
    show_training("bundle", {"step": 1, "loss": float("nan")})


@pytest.mark.parametrize("name", METRICS)
def test_names_follow_the_conventions(name: str) -> None:
    spec = METRICS[name]
    assert re.fullmatch(r"ssvq_[a-z_]+", name)
    assert name.endswith("_total") == (spec.kind is metrics.Counter)
    assert not re.search(r"_(ms|mb|minutes|kilobytes)(_|$)", name), "base units"
    assert spec.description.endswith(".")
    assert not {"image", "image_id", "image_uri", "tile_id"} & set(spec.tags), "would be a series for each image"


# The dashboard


def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return loaded


EXPRESSIONS = [
    (panel["title"], target["expr"]) for panel in dashboard()["panels"] for target in panel.get("targets", [])
]


@pytest.mark.parametrize(("title", "expression"), EXPRESSIONS)
def test_expressions_are_of_metrics_that_there_are(title: str, expression: str) -> None:
    assert_balanced(expression)
    plain = re.sub(r'"[^"]*"', '""', expression)  # without the values of labels
    for name, labels in re.findall(r"\bray_(ssvq_\w+)(?:\{([^}]*)\})?", plain):
        assert name in METRICS, title
        assert {label.strip() for label in re.findall(r"(\w+)\s*(?:=~|!=|!~|=)", labels)} <= set(METRICS[name].tags)
    for function, argument in re.findall(r"(\w+)\(+([^()]*\[[^\]]+\])", plain):
        assert function in FUNCTIONS
        (metric,) = re.findall(r"ray_\w+", argument)
        assert metric.endswith("_total"), "a gauge has no rate"
    used = set(re.findall(r"\b([a-z_]\w*)\s*\(", plain))
    assert used <= FUNCTIONS | WORDS
    for group in re.findall(r"by \(([^)]*)\)", plain):
        names = re.findall(r"\bray_ssvq_\w+", plain)
        known = set().union(*(METRICS[name.removeprefix("ray_")].tags for name in names))
        assert not names or {label.strip() for label in group.split(",")} <= known


def assert_balanced(expression: str) -> None:
    closing, opened = {")": "(", "}": "{", "]": "["}, []
    for character in re.sub(r'"[^"]*"', "", expression):
        if character in "({[":
            opened.append(character)
        elif character in closing:
            assert opened.pop() == closing[character]
    assert opened == []


def test_the_dashboard_can_be_imported_anywhere() -> None:
    board = dashboard()
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    panels = board["panels"]
    ids = [panel["id"] for panel in panels]
    assert len(set(ids)) == len(ids)
    for panel in panels:
        places = [panel, *panel.get("targets", [])]
        assert panel["type"] == "row" or all(place["datasource"]["uid"] == "${datasource}" for place in places)
        references = [target["refId"] for target in panel.get("targets", [])]
        assert len(set(references)) == len(references)
    text = DASHBOARD.read_text()
    used = set(re.findall(r"\$\{?(\w+)", text)) - {"__rate_interval", "__range", "__all"}
    assert used <= set(variables)
    for metric in re.findall(r"label_values\(ray_(\w+)", text):
        assert metric in METRICS
    taken = [(x, y) for panel in panels for x, y in _cells(panel["gridPos"])]
    assert len(set(taken)) == len(taken), "panels overlap"


def _cells(place: dict[str, int]) -> Iterator[tuple[int, int]]:
    for x in range(place["x"], place["x"] + place["w"]):
        for y in range(place["y"], place["y"] + place["h"]):
            yield x, y


def test_every_metric_is_shown() -> None:
    shown = set(re.findall(r"\bray_(ssvq_\w+)", " ".join(expression for _, expression in EXPRESSIONS)))
    assert shown == set(METRICS)


# A cluster that exports them


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A cluster of its own, which the environment names to commands. Yields the address of its metrics."""
    ports = [_free_port() for _ in range(2)]
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{ports[0]}")
    ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"]
    options = [f"--port={ports[0]}", f"--metrics-export-port={ports[1]}", "--node-ip-address=127.0.0.1"]
    sizes = ["--num-cpus=4", f"--object-store-memory={200 * 2**20}", "--include-dashboard=false"]
    folder = tempfile.mkdtemp(prefix="ssvq-")  # the sockets in it need a short path
    head = subprocess.Popen(
        [*ray, *options, *sizes, f"--temp-dir={folder}"],
        env={**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_metrics_report_interval_ms": "1000"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        address = f"http://127.0.0.1:{ports[1]}/metrics"
        wait_for(lambda: "ray_node_cpu_count" in scrape(address))
        yield address
    finally:
        os.killpg(head.pid, signal.SIGTERM)
        head.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def scrape(address: str) -> str:
    """What an agent exports, or nothing as long as it does not answer."""
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


def wait_for(what: Any, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.5)


def totals(text: str) -> dict[tuple[str, str], float]:
    """The sum of each metric of ours, by name and stage, as Prometheus would read it."""
    found: dict[tuple[str, str], float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name.startswith("ray_ssvq_"):
                assert sample.labels["survey"] == "images"
                key = sample.name, sample.labels.get("stage", "")
                found[key] = found.get(key, 0.0) + sample.value
    return found


@pytest.mark.slow
def test_a_cluster_exports_what_the_ledger_says(tmp_path: Path, cluster: str) -> None:
    survey, model, out = make_survey(tmp_path / "survey", images=6) / "images", tmp_path / "bundle", tmp_path / "scores"
    write_image(survey / "black.png", np.zeros((3 * TILE, 5 * TILE, 3), np.uint8))
    torn = (survey / "01.png").read_bytes()
    (survey / "torn.png").write_bytes(torn[: len(torn) // 2])
    (survey / "text.png").write_text("no image")
    make_bundle(model)
    seen: list[str] = []
    arguments = ["--survey", str(survey), "--model", str(model), "--out", str(out), "--log-format", "json"]
    process = commands.start("score", *arguments)
    while process.poll() is None:
        seen.append(scrape(cluster))
        time.sleep(0.5)
    errors = process.communicate()[1]
    assert process.returncode == ExitCode.SOME_IMAGES_FAILED, errors
    assert any("ray_data_num_tasks_running" in text for text in seen)
    lines = [json.loads(line) for line in errors.splitlines()]
    (run,) = (out / "runs").iterdir()
    assert {(line["run_id"], line["survey"]) for line in lines} == {(run.stem, "images")}
    failed = {Path(line["image"]).name: line["stage"] for line in lines if line["level"] == "WARNING"}
    assert failed == {"text.png": "read", "torn.png": "read"}

    sql = """SELECT count(*) FILTER (status = 'scored') AS scored, count(*) FILTER (status = 'failed') AS failed,
                    sum(tiles) AS tiles, sum(anomalous_tiles) AS anomalous, sum(seconds) AS seconds,
                    sum(bytes) FILTER (image_uri NOT LIKE '%text.png') AS bytes FROM images"""
    (ledger,) = Scores(str(out)).sql(sql).to_pylist()
    assert (ledger["scored"], ledger["failed"], ledger["tiles"]) == (7, 2, 6 * 8 + 15)
    wait_for(lambda: totals(scrape(cluster)).get(("ray_ssvq_images_scored_total", "")) == 7, seconds=20)
    found = totals(scrape(cluster))
    assert found["ray_ssvq_tiles_scored_total", ""] == ledger["tiles"]
    assert found.get(("ray_ssvq_tiles_anomalous_total", ""), 0) == ledger["anomalous"]
    assert found["ray_ssvq_images_failed_total", "read"] == ledger["failed"]
    assert found["ray_ssvq_read_bytes_total", ""] == pytest.approx(float(ledger["bytes"]))
    stages = {stage: found["ray_ssvq_stage_seconds_total", stage] for stage in ("read", "score", "write")}
    assert stages["read"] + stages["score"] == pytest.approx(ledger["seconds"], rel=0.01)
    assert stages["write"] > 0
    declared = {name.removeprefix("ray_") for name, _ in totals("\n".join(seen[-1:])) | found}
    assert declared <= set(METRICS)
