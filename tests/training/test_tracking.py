"""`--track`: what a tracker is told of a training, and that no training depends on one."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from matplotlib.figure import Figure

from ssvq.cli import main
from ssvq.errors import ExitCode, InputError
from ssvq.model.bundle import CARD, DESCRIPTION, WEIGHTS, read_description
from ssvq.training.held_out import HELD_OUT
from ssvq.training.job import train
from ssvq.training.settings import TrainConfig
from ssvq.training.tile_cache import TileRef
from ssvq.training.tracking import pictures, tracking
from ssvq.training.tracking.address import Address, parse_address
from ssvq.training.tracking.service import Service
from ssvq.training.tracking.tracking import RUN, check_installed, flat, track_training
from tests.support.surveys import make_bundle, make_survey, tiny_training

PARAMETERS = {"steps": 6, "optimiser": {"learning_rate": 0.001}, "crop": None}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An output with a finished bundle."""
    make_bundle(tmp_path / "bundle")
    for name in (CARD, HELD_OUT):
        (tmp_path / "bundle" / name).write_text(name)
    return tmp_path / "bundle"


class Recorder(Service):
    """Notes what it is told; raises at what `fails` names, and takes its time at what `hangs` does."""

    def __init__(self, fails: str = "", hangs: str = "") -> None:
        self.told: list[tuple[Any, ...]] = []
        self.fails, self.hangs = fails, hangs

    def note(self, name: str, *values: Any) -> None:
        if name == self.fails:
            raise ConnectionError("no route to http://user:secret@host with abcdefgh-token\nmore")
        if name == self.hangs:
            time.sleep(5)
        self.told.append((name, *values))

    def begin(self, run: str | None, name: str, parameters: dict[str, str]) -> str:
        self.note("begin", run, name, parameters)
        return run or "r1"

    def figures(self, step: int, figures: dict[str, float]) -> None:
        self.note("figures", step, figures)

    def picture(self, name: str, picture: Figure) -> None:
        self.note("picture", name)

    def bundle(self, model_id: str, folder: Path) -> None:
        self.note("bundle", model_id, sorted(path.name for path in folder.iterdir()))

    def end(self, *, finished: bool) -> None:
        self.note("end", finished)


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """What `--track mlflow` opens."""
    found = Recorder()
    monkeypatch.setattr(tracking, "open_service", lambda address: found)
    return found


def train_with(track: str | None, out: Path) -> None:
    """What a training says, without the training."""
    with track_training(track, str(out), PARAMETERS) as run:
        run.figures({"step": 1, "time": 1e9, "loss": 2.0})
        run.figures({"step": 2, "time": 1e9, "loss": 1.0, "validation_auroc": 0.9})
        run.picture("scores", Figure)
        run.bundle("m" * 16, 2, {"test_auroc": 0.8})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mlflow", Address("mlflow", None)),
        ("mlflow://tracker:5000", Address("mlflow", "http://tracker:5000")),
        ("mlflow+https://tracker/path", Address("mlflow", "https://tracker/path")),
        ("mlflow+sqlite:///runs.db", Address("mlflow", "sqlite:///runs.db")),
        ("wandb", Address("wandb", None)),
        ("wandb://corrosion", Address("wandb", "corrosion")),
        ("wandb://us/corrosion", Address("wandb", "us/corrosion")),
    ],
)
def test_addresses(text: str, expected: Address) -> None:
    assert parse_address(text) == expected


@pytest.mark.parametrize("text", ["", "tensorboard", "mlflow://", "mlflow+", "wandb://", "wandb://a/b/c", "http://x"])
def test_what_is_no_tracker_is_one_line(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["train", "--images", str(tmp_path), "--out", str(tmp_path / "out"), f"--track={text}"]
    assert main(arguments) == ExitCode.WRONG_INPUT
    said = capsys.readouterr().err
    assert "--track: is not a tracker: give mlflow, mlflow://HOST:PORT" in said
    assert said.count("\n") == 1


def test_an_address_with_a_password_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["train", "--images", str(tmp_path), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--track", "mlflow+https://me:hunter22@host"]) == ExitCode.WRONG_INPUT
    said = capsys.readouterr().err
    assert "MLFLOW_TRACKING_TOKEN" in said
    assert "hunter22" not in said


def test_a_missing_package_is_said_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssvq.extras.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"--track mlflow://x needs mlflow: pip install 'ssvq\[mlflow\]'"):
        check_installed("mlflow://x")
    with pytest.raises(InputError, match=r"needs wandb: pip install 'ssvq\[wandb\]'"):
        train(tiny_training(tmp_path / "none", tmp_path / "out", track="wandb"))
    check_installed(None)


def test_a_tracker_does_not_make_another_training(tmp_path: Path) -> None:
    plain, tracked = (tiny_training(tmp_path, tmp_path / "out", track=track).saved() for track in (None, "wandb"))
    assert TrainConfig.identity(plain) == TrainConfig.identity(tracked)
    del plain["track"]  # of an earlier version
    assert TrainConfig.identity(plain) == TrainConfig.identity(tracked)


def test_a_tracker_is_told_all_in_order(out: Path, recorder: Recorder) -> None:
    train_with("mlflow", out)
    files = sorted([CARD, DESCRIPTION, WEIGHTS, HELD_OUT])
    assert recorder.told == [
        ("begin", None, "bundle", {"steps": "6", "optimiser.learning_rate": "0.001"}),
        ("figures", 1, {"loss": 2.0}),
        ("figures", 2, {"loss": 1.0, "validation_auroc": 0.9}),
        ("picture", "scores"),
        ("figures", 2, {"test_auroc": 0.8}),
        ("bundle", "m" * 16, files),
        ("end", True),
    ]


def test_a_training_that_goes_on_does_so_in_its_run(out: Path, recorder: Recorder) -> None:
    with pytest.raises(KeyboardInterrupt), track_training("mlflow", str(out), PARAMETERS):
        raise KeyboardInterrupt
    assert recorder.told[-1] == ("end", False)
    train_with("mlflow", out)
    assert [told[1] for told in recorder.told if told[0] == "begin"] == [None, "r1"]
    train_with("wandb", out)  # a run of another tracker is none of this one
    assert [told[1] for told in recorder.told if told[0] == "begin"] == [None, "r1", None]


@pytest.mark.parametrize("fails", ["begin", "figures", "picture", "bundle", "end"])
def test_a_tracker_that_fails_is_one_warning(
    fails: str, out: Path, recorder: Recorder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "abcdefgh-token")
    recorder.fails = fails
    train_with("mlflow", out)
    said = capsys.readouterr().err
    assert said == (
        "warning: --track mlflow: no route to http://host with ***; the training does not need it and goes on\n"
    )


def test_a_tracker_that_hangs_is_not_waited_for(
    out: Path, recorder: Recorder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tracking, "PATIENCE", 0.2)
    recorder.hangs = "figures"
    started = time.monotonic()
    train_with("mlflow", out)
    assert time.monotonic() - started < 3
    assert "not everything was sent within 0.2 s" in capsys.readouterr().err


def test_without_a_tracker_nothing_is_drawn_or_kept(out: Path) -> None:
    before = sorted(out.iterdir())
    with track_training(None, str(out), PARAMETERS) as run:
        run.picture("scores", lambda: pytest.fail("drawn"))
    assert sorted(out.iterdir()) == before


def test_credentials_are_no_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "abcdefghijkl")
    assert flat({"a": {"b": "s3://me:pw@host/abcdefghijkl"}, "c": [1, 2]}) == {"a.b": "s3://host/***", "c": "[1, 2]"}


def test_mlflow_keeps_a_run(out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    from mlflow.tracking import MlflowClient

    monkeypatch.chdir(tmp_path)  # where MLflow puts artifacts of a database
    track = "mlflow+sqlite:///runs.db"
    with pytest.raises(ValueError, match="stopped"), track_training(track, str(out), PARAMETERS):
        raise ValueError("stopped")
    client = MlflowClient("sqlite:///runs.db")
    experiment = client.get_experiment_by_name("ssvq")
    assert experiment is not None
    assert [run.info.status for run in client.search_runs([experiment.experiment_id])] == ["FAILED"]
    train_with(track, out)
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.status, run.info.run_name) == ("FINISHED", "bundle")
    assert run.info.run_id == json.loads((out / RUN).read_text())["run"]
    assert run.data.params == {"steps": "6", "optimiser.learning_rate": "0.001"}
    assert run.data.tags["model_id"] == "m" * 16
    history = [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, "loss")]
    assert history == [(1, 2.0), (2, 1.0)]
    assert run.data.metrics["test_auroc"] == 0.8
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == {"bundle", "scores.png"}
    kept = {file.path for file in client.list_artifacts(run.info.run_id, "bundle")}
    assert kept == {f"bundle/{name}" for name in (CARD, DESCRIPTION, WEIGHTS, HELD_OUT)}


def test_a_server_that_is_not_there_is_one_warning(
    out: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    train_with("mlflow://127.0.0.1:9", out)
    said = capfd.readouterr().err
    assert said.count("\n") == 1
    assert "--track mlflow://127.0.0.1:9: " in said
    assert not (out / RUN).exists()


@pytest.fixture
def wandb_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where Weights & Biases keeps what it is told, with no key and no network."""
    pytest.importorskip("wandb").teardown()  # what an earlier run was set to
    for name in ("WANDB_DIR", "WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "wandb"


def test_wandb_keeps_a_run_offline(
    out: Path, wandb_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    train_with("wandb://us/corrosion", out)
    assert capsys.readouterr().err == ""
    pytest.importorskip("wandb").teardown()  # waits until all is on the disk
    (folder,) = wandb_folder.glob("offline-run-*")
    run = json.loads((out / RUN).read_text())["run"]
    assert (folder / f"run-{run}.wandb").stat().st_size > 1000
    assert list(folder.rglob("scores*.png"))


def test_wandb_without_a_key_is_one_warning_and_no_question(
    out: Path, wandb_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    train_with("wandb", out)
    said = capsys.readouterr().err
    assert "--track wandb: no key: set WANDB_API_KEY, or WANDB_MODE=offline" in said
    assert said.count("\n") == 1


def test_mistakes_are_drawn_worst_first(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []

    def pixels(cache: str, tile: TileRef, side: int) -> np.ndarray:
        drawn.append(tile.file)
        return np.zeros((side, side, 3), np.uint8)

    monkeypatch.setattr(pictures, "tile_pixels", pixels)
    tiles = [TileRef(str(i), 0, 0, 8, 8) for i in range(20)]
    scores, anomalous = np.arange(20.0), np.arange(20) % 2 == 1
    figure = pictures.draw_mistakes("cache", 8, tiles, scores, anomalous, 10.0)
    assert drawn == [str(i) for i in (18, 16, 14, 12, 10, 8, 6, 4, 1, 3, 5, 7, 9, 11, 13, 15)]
    figure.canvas.draw()
    alone = pictures.draw_mistakes("cache", 8, tiles[:1], scores[:1], anomalous[:1], 10.0)
    assert len(alone.axes) == pictures.COLUMNS


@pytest.mark.cluster
@pytest.mark.usefixtures("ray_cluster")
def test_a_training_is_tracked(tmp_path: Path, recorder: Recorder) -> None:
    survey = make_survey(tmp_path / "survey")
    out = tmp_path / "model"
    assert train(tiny_training(survey, out, track="mlflow")) == ExitCode.DONE
    names = [told[0] for told in recorder.told]
    assert names == ["begin", *["figures"] * 6, "picture", "picture", "figures", "bundle", "end"]
    begin, *_ = recorder.told
    assert begin[3]["architecture.hidden"] == "16"
    assert begin[3]["counts.images"] == "8"
    bundle = read_description(str(out))
    assert recorder.told[-2][1] == bundle.model_id
    assert (out / CARD).read_text().count(bundle.model_id) >= 2
    assert bundle.training["config"]["track"] == "mlflow"
    assert train(tiny_training(survey, out)) == ExitCode.DONE  # finished, with a tracker or without
    assert pq.read_table(out / HELD_OUT).schema.field("score").type == pa.float64()
