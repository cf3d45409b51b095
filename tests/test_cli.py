"""What a person at a terminal meets: help, settings from three sources, and one line for everything wrong."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from ssvq import cli
from ssvq.config import ENV_PREFIX, ScoreConfig, Section, TrainConfig
from ssvq.errors import ExitCode
from ssvq.imagery.pixel_rule import AS_STORED, PixelRule
from ssvq.model import bundle as bundles
from tests.support.images import REPOSITORY, write_image
from tests.support.surveys import make_bundle, make_survey

Capture = pytest.CaptureFixture[str]


def fails_with_one_line(capsys: Capture, arguments: list[str], code: ExitCode = ExitCode.WRONG_INPUT) -> str:
    """Run a command that must fail. Returns its one line."""
    assert cli.main(arguments) == code
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert "Traceback" not in lines[0]
    return lines[0]


@pytest.mark.parametrize("command", list(cli.COMMANDS))
def test_help_has_a_line_for_each_setting(command: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main([command, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    settings = cli.COMMANDS[command].settings
    for name, field in settings.model_fields.items():
        assert field.description or isinstance(field.default, Section), name
        if field.description:
            assert " ".join(field.description.split()[:4]) in " ".join(text.split()), name


def test_overview_names_every_command(capsys: Capture) -> None:
    assert cli.main(["--help"]) == ExitCode.DONE
    text = capsys.readouterr().out
    for command, spec in cli.COMMANDS.items():
        assert f"  {command} " in text
        assert (spec.settings.__doc__ or "missing") in text
    assert cli.main([]) == ExitCode.WRONG_INPUT


def test_flags_win_over_environment_over_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[TrainConfig] = []
    monkeypatch.setattr("ssvq.training.job.train", lambda config: seen.append(config) or ExitCode.DONE)
    file = tmp_path / "train.yaml"
    values = {"images": "i", "masks": "m", "out": "o", "steps": 1, "seed": 1, "batch_size": 4, "objective": {"beta": 3}}
    file.write_text(yaml.safe_dump(values))
    monkeypatch.setenv("SSVQ_STEPS", "2")
    monkeypatch.setenv("SSVQ_SEED", "2")
    monkeypatch.setenv("SSVQ_OBJECTIVE__MARGIN", "7")
    assert cli.main(["train", "--config", str(file), "--seed", "3", "--objective.eta", "0.25"]) == ExitCode.DONE
    (config,) = seen
    assert (config.batch_size, config.steps, config.seed) == (4, 2, 3)
    assert (config.objective.beta, config.objective.margin, config.objective.eta) == (3, 7, 0.25)
    assert config.images == str(Path("i").absolute())


def test_saved_settings_are_a_configuration_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[TrainConfig] = []
    monkeypatch.setattr("ssvq.training.job.train", lambda config: seen.append(config) or ExitCode.DONE)
    first = TrainConfig(images="i", masks="m", out="o", steps=17)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(first.saved()))
    cli.main(["train", "--config", str(file)])
    assert seen[0].saved() == first.saved()


def test_how_images_are_read_is_set_by_flags_and_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[TrainConfig] = []
    monkeypatch.setattr("ssvq.training.job.train", lambda config: seen.append(config) or ExitCode.DONE)
    flags = ["--bands", "4,3,2", "--value-range=-50,1e4", "--drivers", "hfa,NITF"]
    assert cli.main(["train", "--images", "i", "--out", "o", *flags]) == ExitCode.DONE
    assert seen[0].pixel_rule == PixelRule(bands=(4, 3, 2), value_range=(-50, 10_000))
    assert seen[0].drivers == ["HFA", "NITF"]
    file = tmp_path / "config.json"
    file.write_text(json.dumps(seen[0].saved()))
    cli.main(["train", "--config", str(file)])
    assert seen[1].saved() == seen[0].saved()
    cli.main(["train", "--images", "i", "--out", "o"])
    assert (seen[2].pixel_rule, seen[2].drivers) == (AS_STORED, None)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["fly"], "'fly' is not a command; commands: check"),
        (["train"], "--out is missing"),
        (["train", "--out", "o"], "--images is missing (or --mvtec, or --manifest)"),
        (["train", "--images", "i", "--mvtec", "m", "--out", "o"], "--images and --mvtec name two layouts"),
        (["train", "--images", "i", "--out", "o", "--group-pattern", "("], "--group-pattern '(' is not a regular"),
        (["train", "--images", "i", "--out", "o", "--crop", "64", "--whole-images"], "--crop and --whole-images"),
        (["train", "--images", "i", "--out", "o", "--normal-fraction", "0.5"], "--normal-fraction 0.5 must be below"),
        (["train", "--images", "i", "--out", "o", "--test-fraction", "0.7"], "leave no image for training"),
        (["train", "--images", "i", "--out", "o", "--min-workers", "2"], "--min-workers 2 exceeds --num-workers 1"),
        (["train", "--stepz", "3"], "--stepz"),
        (["train", "--images", "i", "--masks", "m", "--out", "o", "--steps", "many"], "--steps: "),
        (["train", "--images", "i", "--masks", "m", "--out", "o", "--steps", "0"], "--steps: "),
        (["train", "--images", "i", "--masks", "m", "--out", "o", "--objective.name", "x"], "--objective.name: "),
        (["train", "--images", "i", "--masks", "m", "--out", "o", "--crop", "600"], "--crop 600 exceeds --tile-size"),
        (["train", "--images", "i", "--masks", "m", "--out", "o", "--num-workers", "3"], "--num-workers 3"),
        (
            ["train", "--images", "i", "--out", "o", "--bands", "4,3"],
            "--bands: give three bands (red,green,blue) or one",
        ),
        (
            ["train", "--images", "i", "--out", "o", "--bands", "0"],
            "--bands: Input should be greater than or equal to 1",
        ),
        (
            ["train", "--images", "i", "--out", "o", "--value-range", "9,2"],
            "--value-range: the value range 9,2 is empty",
        ),
        (["train", "--images", "i", "--out", "o", "--value-range", "9"], "--value-range.1 is missing"),
        (
            ["train", "--images", "i", "--out", "o", "--drivers", "HFX"],
            "--drivers: 'HFX' is not a driver of this GDAL (sim",
        ),
        (["score", "--drivers", "HFA,what is this"], "--drivers: 'what is this' is not a driver of this GDAL; `rio"),
        (["train", "--config", "missing.yaml"], "--config missing.yaml cannot be read"),
        (["query", "scores"], "SQL"),
    ],
)
def test_wrong_settings_name_the_setting(arguments: list[str], expected: str, capsys: Capture) -> None:
    assert expected in fails_with_one_line(capsys, arguments)


def test_a_relative_output_of_a_submitted_job_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """It would lie in the folder that Ray unpacks the job into, and removes."""
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    for arguments in (
        ["train", "--images", "/i", "--out", "bundle"],
        ["score", "--survey", "/s", "--model", "/m", "--out", "./scores"],
        ["nightly", "/root", "--model", "/m", "--out", "/scores", "--reports", "pages"],
    ):
        assert "is relative, and in a submitted job would lie in" in fails_with_one_line(capsys, arguments)
    for out in ("/full/path", "s3://bucket/scores", "~/scores"):
        ScoreConfig(survey="/s", model="/m", out=out)


def test_a_date_in_a_file_is_text(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("survey: s\nmodel: m\nout: o\nsurvey_name: 2026-11-22\n")
    assert ScoreConfig(config=file).survey_name == "2026-11-22"


def test_wrong_configuration_files(tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "c.yaml"
    for text, expected in (
        ("stepz: 3", "unknown setting stepz"),
        ("objective: {betta: 3}", "unknown setting objective.betta"),
        ("steps: [1", "is not YAML"),
        ("just words", "must hold"),
    ):
        file.write_text(text)
        assert expected in fails_with_one_line(
            capsys, ["train", "--images", "i", "--masks", "m", "--out", "o", "--config", str(file)]
        )


def test_an_unknown_variable_is_warned_of(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setenv(f"{ENV_PREFIX}STEPZ", "3")
    cli.main(["query", "nowhere", "SELECT 1"])
    assert "SSVQ_STEPZ is not a setting" in capsys.readouterr().err


class TestWrongInput:
    """Each is found before Ray starts, so it answers at once."""

    def test_training(self, tmp_path: Path, capsys: Capture) -> None:
        survey = make_survey(tmp_path / "survey", images=2)
        images, masks = str(survey / "images"), str(survey / "masks")
        empty = tmp_path / "empty"
        empty.mkdir()
        file = tmp_path / "file"
        file.touch()
        out = str(tmp_path / "out")
        for arguments, expected in (
            (["--images", "nowhere", "--masks", masks, "--out", out], "nowhere is not a folder"),
            (["--images", images, "--masks", "nowhere", "--out", out], "nowhere is not a folder"),
            (["--images", str(empty), "--masks", masks, "--out", out], "holds no image"),
            (["--images", images, "--masks", masks, "--out", str(file / "x")], "--out"),
        ):
            assert expected in fails_with_one_line(capsys, ["train", *arguments])

    def test_scoring(self, tmp_path: Path, capsys: Capture) -> None:
        survey = tmp_path / "survey"
        write_image(survey / "a.png", np.zeros((32, 32), np.uint8))
        empty = tmp_path / "empty"
        empty.mkdir()
        model, out = tmp_path / "model", str(tmp_path / "out")
        bundle = make_bundle(model)
        cases = [
            (["--survey", str(survey), "--model", "nowhere", "--out", out], "not a finished bundle"),
            (["--survey", "nowhere", "--model", str(model), "--out", out], "nowhere is not a folder"),
            (["--survey", str(empty), "--model", str(model), "--out", out], "holds no image"),
            (["--survey", str(survey), "--model", str(model), "--out", "/dev/null/x"], "--out"),
            (["--survey", str(survey), "--survey-name", "a/b", "--model", str(model), "--out", out], "--survey-name"),
            (["--survey", str(survey), "--survey-name", "../x", "--model", str(model), "--out", out], "--survey-name"),
        ]
        for arguments, expected in cases:
            assert expected in fails_with_one_line(capsys, ["score", *arguments])
        description = model / bundles.DESCRIPTION
        description.write_text(bundle.model_dump_json().replace('"version":3', '"version":99'))
        arguments = ["score", "--survey", str(survey), "--model", str(model), "--out", out]
        assert "version 99" in fails_with_one_line(capsys, arguments)
        assert not Path(out).exists()

    def test_queries(self, tmp_path: Path, capsys: Capture) -> None:
        assert "holds no score maps" in fails_with_one_line(capsys, ["query", str(tmp_path), "SELECT 1"])


def test_a_bug_is_one_line_and_a_traceback_only_for_debug(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    def broken(config: object) -> ExitCode:
        raise KeyError("inside")

    monkeypatch.setattr("ssvq.results.query.query", broken)
    line = fails_with_one_line(capsys, ["query", "s", "q"], ExitCode.INTERNAL_ERROR)
    assert "KeyError" in line
    assert cli.main(["query", "s", "q", "--debug"]) == ExitCode.INTERNAL_ERROR
    assert "Traceback" in capsys.readouterr().err


def test_interrupting_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    def interrupted(config: object) -> ExitCode:
        raise KeyboardInterrupt

    monkeypatch.setattr("ssvq.results.query.query", interrupted)
    assert "run the same command again" in fails_with_one_line(capsys, ["query", "s", "q"], ExitCode.INTERRUPTED)


@pytest.mark.parametrize("job", ["train", "score", "evaluate"])
def test_jobs_are_the_commands(job: str) -> None:
    script = REPOSITORY / "jobs" / f"{job}.py"
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, cwd=REPOSITORY)
    assert run.returncode == ExitCode.WRONG_INPUT
    assert run.stderr.startswith(f"ssvq {job}: error: --")
    assert "is missing" in run.stderr
