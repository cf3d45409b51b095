"""Jobs that are killed or interrupted, and run again."""

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ssvq.errors import ExitCode
from ssvq.model import bundle as bundles
from ssvq.scores.data_set import Scores
from tests.support import faulty_decoding
from tests.support.commands import SCORES, start, wait_for
from tests.support.surveys import make_bundle, make_survey, tiny_training

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def worker_pids(session: int, *names: str) -> list[int]:
    """Ray's workers of a session that run one of the named things."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            running = (folder / "cmdline").read_bytes()
            if any(name.encode() in running for name in names) and os.getsid(int(folder.name)) == session:
                found.append(int(folder.name))
        except (OSError, ProcessLookupError):
            continue  # ended meanwhile
    return found


def test_training_that_is_killed_goes_on_and_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    survey = make_survey(tmp_path / "survey")
    settings = tmp_path / "train.json"
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    config = tiny_training(survey, undisturbed, steps=160, validate_every=20)
    settings.write_text(json.dumps({k: v for k, v in config.saved().items() if k != "out"}))

    def arguments(out: Path) -> list[str]:
        return ["train", "--config", str(settings), "--out", str(out)]

    first = start(*arguments(killed))
    # The second checkpoint is there: the first is surely whole, and most steps are still to come.
    wait_for(lambda: len(list(killed.glob("checkpoints/train/checkpoint_*"))) >= 2)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert not bundles.is_finished(str(killed))

    for out in (killed, undisturbed):
        run = start(*arguments(out))
        output, errors = run.communicate()
        assert run.returncode == ExitCode.DONE, errors
        assert "model" in output
    steps = [json.loads(line)["step"] for line in (killed / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps))
    assert steps[-1] == 160
    weights = [bundles.read_weights(str(p), bundles.read_description(str(p))) for p in (killed, undisturbed)]
    for name in weights[0]:
        torch.testing.assert_close(weights[0][name], weights[1][name], rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.soak  # test_nodes has it with nodes
def test_training_whose_worker_is_killed_goes_on_by_itself(tmp_path: Path) -> None:
    survey = make_survey(tmp_path / "survey")
    settings = tmp_path / "train.json"
    undisturbed, hit = tmp_path / "undisturbed", tmp_path / "hit"
    config = tiny_training(survey, undisturbed, steps=120, validate_every=20, num_workers=2)
    settings.write_text(json.dumps({k: v for k, v in config.saved().items() if k != "out"}))
    first = start("train", "--config", str(settings), "--out", str(hit))
    wait_for(lambda: len(list(hit.glob("checkpoints/train/checkpoint_*"))) >= 2)
    os.kill(worker_pids(first.pid, "RayTrainWorker")[0], signal.SIGKILL)
    second = start("train", "--config", str(settings), "--out", str(undisturbed))
    for run in (first, second):
        _, errors = run.communicate()
        assert run.returncode == ExitCode.DONE, errors
    weights = [bundles.read_weights(str(p), bundles.read_description(str(p))) for p in (hit, undisturbed)]
    for name in weights[0]:
        torch.testing.assert_close(weights[0][name], weights[1][name], rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.soak  # test_nodes has it with nodes
def test_training_goes_on_with_fewer_workers(tmp_path: Path) -> None:
    """Batches do not depend on the number of workers, so what is learned differs by rounding and its growth alone."""
    survey = make_survey(tmp_path / "survey", images=16)
    settings = tmp_path / "train.json"
    out = tmp_path / "out"
    config = tiny_training(survey, out, steps=100, validate_every=20, num_workers=3, batch_size=12, min_workers=1)
    settings.write_text(json.dumps(config.saved()))
    first = start("train", "--config", str(settings))
    wait_for(lambda: len(list(out.glob("checkpoints/train/checkpoint_*"))) >= 2)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    run = start("train", "--config", str(settings), "--num-workers", "1", "--min-workers", "1")
    _, errors = run.communicate()
    assert run.returncode == ExitCode.DONE, errors
    assert bundles.read_description(str(out)).metrics["calibration_auroc"] > 0.9


Command = Callable[[Path], list[str]]


@pytest.fixture
def score_into(tmp_path: Path) -> Command:
    """The command that scores a survey of 40 images into a folder."""
    survey = make_survey(tmp_path / "survey", images=40, height=320, width=320) / "images"
    make_bundle(tmp_path / "bundle")
    return lambda out: ["score", "--survey", str(survey), "--model", str(tmp_path / "bundle"), "--out", str(out)]


def start_to_score(command: list[str], out: Path) -> "subprocess.Popen[str]":
    """A run that has put some images and has most still to do."""
    run = start(*command)
    wait_for(lambda: len(list(out.glob("tiles/*/*/*/*.parquet"))) >= 3)
    return run


@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.soak)])
def test_scoring_that_is_stopped_goes_on_and_ends_as_if_it_had_not_been(
    tmp_path: Path, score_into: Command, how: signal.Signals
) -> None:
    undisturbed, stopped = tmp_path / "undisturbed", tmp_path / "stopped"
    first = start_to_score(score_into(stopped), stopped)
    if how == signal.SIGKILL:
        os.killpg(first.pid, how)
    else:
        first.send_signal(how)
    _, errors = first.communicate()
    if how == signal.SIGINT and first.returncode != ExitCode.DONE:  # it may have been done just then
        assert first.returncode == ExitCode.INTERRUPTED
        assert errors.splitlines()[-1] == "ssvq score: interrupted; run the same command again to go on"

    for out in (stopped, undisturbed):
        run = start(*score_into(out))
        _, errors = run.communicate()
        assert run.returncode == ExitCode.DONE, errors
    assert Scores(str(stopped)).sql(SCORES).equals(Scores(str(undisturbed)).sql(SCORES))
    files = [sorted(path.name for path in (out / "tiles").rglob("*")) for out in (stopped, undisturbed)]
    assert files[0] == files[1], "no stray file under tiles/"


@pytest.mark.parametrize(
    "victim",
    [
        pytest.param("MapBatches(read_parts)", marks=pytest.mark.soak),
        pytest.param("MapWorker", marks=pytest.mark.soak),
        pytest.param("MapBatches(write_parts)", marks=pytest.mark.soak),
        "decoding",
    ],
)
def test_scoring_whose_worker_is_killed_goes_on_by_itself(tmp_path: Path, score_into: Command, victim: str) -> None:
    undisturbed, hit = tmp_path / "undisturbed", tmp_path / "hit"
    first = start_to_score(score_into(hit), hit)
    victims: list[int] = []

    def found_or_over() -> bool:
        victims.extend(worker_pids(first.pid, victim))
        return bool(victims) or first.poll() is not None

    wait_for(found_or_over)
    for pid in victims[:1]:
        os.kill(pid, signal.SIGKILL)
    second = start(*score_into(undisturbed))
    for run in (first, second):
        _, errors = run.communicate()
        assert run.returncode == ExitCode.DONE, errors
    assert Scores(str(hit)).sql(SCORES).equals(Scores(str(undisturbed)).sql(SCORES))


@pytest.mark.soak  # test_exactly_once has it step by step
def test_two_jobs_started_at_once_end_as_one(tmp_path: Path) -> None:
    survey = make_survey(tmp_path / "survey", images=24, height=160, width=160) / "images"
    make_bundle(tmp_path / "bundle")
    out = tmp_path / "scores"
    command = ["score", "--survey", str(survey), "--model", str(tmp_path / "bundle"), "--out", str(out)]
    runs = [start(*command) for _ in range(2)]
    for run in runs:
        _, errors = run.communicate()
        assert run.returncode == ExitCode.DONE, errors
    last = start(*command)
    output, errors = last.communicate()
    assert last.returncode == ExitCode.DONE, errors
    counted = Scores(str(out)).sql("SELECT count(*) AS n, count(DISTINCT tile_id) AS d FROM tiles").to_pylist()
    assert counted == [{"n": 24 * 25, "d": 24 * 25}]
    again = start(*command)
    output, errors = again.communicate()
    assert "nothing to do" in output


def test_images_that_break_their_reader_are_rows_of_the_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    survey = make_survey(tmp_path / "survey", images=4) / "images"
    for name in ("crash header", "crash pixels", "deadly header", "deadly pixels", "hang", "hungry", "once"):
        shutil.copy(survey / "00.png", survey / f"{name}.png")
    make_bundle(tmp_path / "bundle")
    monkeypatch.setenv("PYTHONPATH", str(faulty_decoding.install(tmp_path / "faults")))
    out = str(tmp_path / "scores")
    limits = ["--read.seconds", "15", "--read.memory", "512"]
    run = start("score", "--survey", str(survey), "--model", str(tmp_path / "bundle"), "--out", out, *limits)
    _, errors = run.communicate()
    assert run.returncode == ExitCode.SOME_IMAGES_FAILED, errors
    sql = "SELECT regexp_extract(image_uri, '[^/]+$') AS name, tiles, error_stage, error_message FROM images"
    images = {row["name"]: row for row in Scores(out).sql(sql).to_pylist()}
    assert {name: row["error_message"] for name, row in images.items() if row["error_stage"]} == {
        "crash header.png": "decoding crashed (SIGSEGV), 2 times",
        "crash pixels.png": "decoding crashed (SIGSEGV), 2 times",
        "deadly header.png": "the process that read it died 2 times (out of memory?)",
        "deadly pixels.png": "the process that read it died 2 times (out of memory?)",
        "hang.png": "decoding took over 15 s (--read.seconds), 2 times",
        "hungry.png": "cannot be read in 512 MiB of memory (--read.memory)",
    }
    assert {row["error_stage"] for row in images.values()} == {None, "read"}
    assert all(row["tiles"] == 8 for row in images.values() if not row["error_stage"])
    assert len(images) == 11


def test_a_full_disk_ends_in_one_line_and_loses_nothing(tmp_path: Path) -> None:
    survey = make_survey(tmp_path / "survey", images=30, height=320, width=320) / "images"
    make_bundle(tmp_path / "bundle")
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(small)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    try:
        out = small / "scores"
        command = ["score", "--survey", str(survey), "--model", str(tmp_path / "bundle"), "--out", str(out)]
        run = start(*command)
        _, errors = run.communicate()
        assert run.returncode == ExitCode.INTERNAL_ERROR
        assert re.search(r"^ssvq score: error: .*No space left on device.*run the same command again$", errors, re.M), (
            errors
        )
        kept = {path.name for path in out.glob("tiles/*/*/*/*.parquet")}
        assert 0 < len(kept) < 30
        subprocess.run(["mount", "-o", "remount,size=30m", str(small)], check=True)
        run = start(*command)
        _, errors = run.communicate()
        assert run.returncode == ExitCode.DONE, errors
        assert kept <= {path.name for path in out.glob("tiles/*/*/*/*.parquet")}
        assert Scores(str(out)).sql("SELECT count(*) AS n FROM tiles").to_pylist() == [{"n": 3000}]
    finally:
        subprocess.run(["umount", str(small)], check=True)
