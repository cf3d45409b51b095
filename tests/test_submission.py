"""Jobs are submitted to a cluster of `ray start` with token authentication, as the README says."""

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest

from ssvq.errors import ExitCode
from ssvq.scores.data_set import Scores
from tests.support.commands import SCORES, wait_for
from tests.support.images import REPOSITORY
from tests.support.surveys import make_bundle, make_survey, tiny_training

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

RAY = str(Path(sys.executable).with_name("ray"))
START_SECONDS = 120
PACKAGE_BYTES = 20e6

IMAGES = 80  # of the survey that is stopped


class Cluster:
    """One head node, in a folder, on ports and with a token of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.token = folder, secrets.token_hex(32)
        (folder / "token").write_text(self.token)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "SSVQ_"))}
        self.environment = {
            **inherited,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # `python` of the jobs
            "OMP_NUM_THREADS": "1",
        }
        names = ("port", "dashboard-port", "ray-client-server-port", "dashboard-agent-listen-port")
        ports = dict(zip(names, free_ports(len(names)), strict=True))
        self.address = f"http://127.0.0.1:{ports['dashboard-port']}"
        options = {"node-ip-address": "127.0.0.1", "num-cpus": 6, "object-store-memory": 500_000_000} | ports
        self.log = folder / "ray-start.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [RAY, "start", "--head", "--block", "--disable-usage-stats", "--temp-dir", str(folder / "ray")]
                + [f"--{name}={value}" for name, value in options.items()],
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def answers(self) -> bool:
        """Whether jobs can be submitted."""
        assert self.process.poll() is None, self.log.read_text()
        try:
            self.ask("jobs/")
        except OSError:
            return False
        return True

    def ask(self, path: str, method: str = "GET") -> Any:
        """An answer of the REST API."""
        headers = {"Authorization": f"Bearer {self.token}"}
        request = urllib.request.Request(f"{self.address}/api/{path}", headers=headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def job(self, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        """`ray job ...` from the repository."""
        command = [RAY, "job", arguments[0], "--address", self.address, *arguments[1:]]
        changed = self.environment | environment
        return subprocess.run(command, cwd=REPOSITORY, env=changed, capture_output=True, text=True, check=False)

    def submit(self, name: str, *command: str, options: tuple[str, ...] = ()) -> "subprocess.CompletedProcess[str]":
        """`ray job submit`, of a job with a name."""
        return self.job("submit", "--working-dir", ".", "--submission-id", name, *options, "--", "python", *command)

    def stop(self) -> None:
        """End the node, and what is left of it."""
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(20)
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                if os.getsid(process.pid) == self.process.pid:
                    process.kill()
        self.process.wait()


def free_ports(number: int) -> list[int]:
    probes = [socket.socket() for _ in range(number)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    # Sockets lie in the folder, whose paths have at most 107 characters: pytest's own folders are too deep.
    folder = Path(tempfile.mkdtemp(prefix="ray"))
    cluster = Cluster(folder)
    try:
        wait_for(cluster.answers, START_SECONDS)
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


def test_training_and_evaluation_succeed_and_their_logs_stream(cluster: Cluster, tmp_path: Path) -> None:
    survey, bundle = make_survey(tmp_path / "survey"), tmp_path / "bundle"
    settings = tmp_path / "train.json"
    settings.write_text(json.dumps(tiny_training(survey, bundle, steps=4, validate_every=2).saved()))
    trained = cluster.submit("train", "jobs/train.py", "--config", str(settings))
    assert trained.returncode == 0, trained.stdout + trained.stderr
    assert "Running entrypoint for job train: python jobs/train.py" in trained.stdout
    assert "model" in trained.stdout
    assert cluster.ask("jobs/train")["driver_exit_code"] == ExitCode.DONE

    places = ("--images", str(survey / "images"), "--masks", str(survey / "masks"))
    evaluated = cluster.submit("evaluate", "jobs/evaluate.py", "--model", str(bundle), *places, "--bootstrap", "0")
    assert evaluated.returncode == 0, evaluated.stdout + evaluated.stderr
    assert "AUROC" in evaluated.stdout

    packages = list(
        (cluster.folder / "ray" / "session_latest" / "runtime_resources").glob("working_dir_files/_ray_pkg*")
    )
    for package in (path for path in packages if path.is_dir()):
        assert (package / "jobs" / "train.py").exists()
        assert not {".venv", ".git", "demo", "results"} & {path.name for path in package.iterdir()}
        assert sum(path.stat().st_size for path in package.rglob("*") if path.is_file()) < PACKAGE_BYTES


@pytest.mark.soak  # test_faults stops it without `ray job stop`
def test_scoring_that_is_stopped_keeps_its_work_and_goes_on(cluster: Cluster, tmp_path: Path) -> None:
    root, bundle, out = tmp_path / "surveys", tmp_path / "bundle", tmp_path / "scores"
    root.mkdir()
    make_survey(tmp_path, images=IMAGES, height=320, width=320)
    (tmp_path / "images").rename(root / "2026-11-22")
    make_bundle(bundle)
    command = ("jobs/score.py", "--survey", str(root / "2026-11-22"), "--model", str(bundle), "--out", str(out))
    begun = cluster.submit("stopped", *command, options=("--no-wait",))
    assert begun.returncode == 0, begun.stdout + begun.stderr
    wait_for(lambda: len(list(out.glob("tiles/*/*/*/*.parquet"))) >= 3, 120)
    # What `ray job stop` asks for, without the seconds that it takes to start.
    assert cluster.ask("jobs/stopped/stop", "POST")["stopped"]
    wait_for(lambda: cluster.ask("jobs/stopped")["status"] != "RUNNING", 60)
    assert cluster.ask("jobs/stopped")["status"] == "STOPPED"
    assert "Traceback" not in cluster.ask("jobs/stopped/logs")["logs"]
    # What the driver had heard of is in the ledger; an object that it had not is put again.
    known = [pq.read_table(path) for path in (out / "images").glob("*.parquet")]
    kept = sum(len(table) for table in known)

    again = cluster.submit("again", *command)
    assert again.returncode == 0, again.stdout + again.stderr
    if kept < IMAGES:  # else it was done just then
        left = IMAGES - kept
        assert f"{IMAGES} images, {kept} done, {left} to score" in again.stdout
        assert f"scored {left} images" in again.stdout
        progress = rf"scoring: {left} of {left} images, .*; {100 * left} tiles, "
        assert re.search(progress, again.stdout), "progress is in the log"

    # The same survey by night, undisturbed; and beside it one with a broken image.
    (root / "2026-11-23").mkdir()
    (root / "2026-11-23" / "broken.png").write_text("no image")
    shutil.copy(root / "2026-11-22" / "00.png", root / "2026-11-23" / "whole.png")
    nights = tmp_path / "nights"
    by_night = ("jobs/nightly.py", str(root), "--model", str(bundle), "--out", str(nights))
    night = cluster.submit("night", *by_night)
    assert night.returncode == 1, "`ray job submit` has no other code for a job that did not succeed"
    details = cluster.ask("jobs/night")
    assert (details["status"], details["driver_exit_code"]) == ("FAILED", ExitCode.SOME_IMAGES_FAILED)
    assert re.search(r"2026-11-23 +some images failed +1 +1 ", night.stdout)
    undisturbed = Scores(str(nights)).sql(SCORES.replace("tiles", "tiles WHERE survey = '2026-11-22'"))
    assert Scores(str(out)).sql(SCORES).equals(undisturbed)

    (root / "2026-11-23" / "broken.png").unlink()
    mended = cluster.submit("mended", *by_night, "--prune")
    assert mended.returncode == 0, mended.stdout + mended.stderr
    assert "nothing new in 1 more survey" in mended.stdout
    assert cluster.ask("jobs/mended")["driver_exit_code"] == ExitCode.DONE


def test_nothing_is_submitted_without_the_token(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(secrets.token_hex(32))
    for environment in ({"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")}):
        before = cluster.ask("jobs/")
        refused = cluster.job("submit", "--working-dir", ".", "--", "python", "-c", "print('ran')", **environment)
        assert refused.returncode != 0
        assert "ran" not in refused.stdout.split()
        assert "authenti" in (refused.stdout + refused.stderr).lower()
        assert cluster.ask("jobs/") == before
