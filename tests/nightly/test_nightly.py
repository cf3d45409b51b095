"""`ssvq nightly`: every survey of a root is brought up to date, whatever happened to the nights before."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssvq import cli
from ssvq.errors import ExitCode, InputError
from ssvq.imagery.surveys import find_surveys
from ssvq.nightly import job as nightly
from ssvq.nightly import publication
from ssvq.scores.data_set import Scores
from tests.support.images import REPOSITORY, write_image
from tests.support.surveys import TILE, make_bundle, paint

Capture = pytest.CaptureFixture[str]


class Root:
    """Surveys under one root, and a model to score them with."""

    def __init__(self, folder: Path) -> None:
        self.surveys, self.model, self.out = folder / "surveys", folder / "bundle", folder / "scores"
        make_bundle(self.model)

    def add(self, survey: str, *names: str) -> None:
        for name in names:
            rng = np.random.default_rng(len(name))
            write_image(self.surveys / survey / name, paint(rng, TILE, 2 * TILE, rough=True)[0])

    def run(self, *flags: str) -> int:
        return cli.main(
            [
                "nightly",
                str(self.surveys),
                "--model",
                str(self.model),
                "--out",
                str(self.out),
                "--device",
                "cpu",
                *flags,
            ]
        )

    def page(self, survey: str) -> Path:
        return self.out / "reports" / f"{survey}.html"

    def published(self, survey: str) -> Path:
        (file,) = (self.out / "published" / survey).rglob("*.parquet")
        return file

    def summaries(self) -> list[dict[str, Any]]:
        """Of the nightly runs, the first first."""
        files = sorted((self.out / "runs").iterdir(), key=lambda path: path.stat().st_mtime_ns)
        runs = [json.loads(path.read_text()) for path in files]
        return [run["summary"] for run in runs if run.get("command") == "nightly"]

    def files(self) -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in self.out.rglob("*") if path.is_file()}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Root:
    monkeypatch.setenv("SSVQ_PICTURES", "0")  # of `ssvq report`, whose tests look at them
    return Root(tmp_path)


def outcomes(summary: dict[str, Any]) -> dict[str, tuple[int, int, int, int]]:
    """Exit code, and images scored, failed and left alone, by survey."""
    return {
        one["survey"]: (one["code"], one["scored"], one["failed"], one["left_alone"]) for one in summary["outcomes"]
    }


@pytest.mark.cluster
@pytest.mark.usefixtures("ray_cluster")
class TestOnACluster:
    def test_only_what_is_new_is_done_and_one_summary_says_what_was(self, root: Root, capsys: Capture) -> None:
        root.add("2026-11-20", "a.png")
        assert root.run() == ExitCode.DONE
        untouched = {path: time for path, time in root.files().items() if "2026-11-20" in str(path)}
        assert len(untouched) == 3, "a score map, the published file and the page"

        root.add("2026-11-21", "a.png", "b.png")
        root.add("2026-11-22", "a.png")
        (root.surveys / "2026-11-22" / "broken.png").write_text("no image")
        (root.surveys / "2026-11-23").mkdir()
        capsys.readouterr()
        assert root.run() == ExitCode.SOME_IMAGES_FAILED
        output, errors = capsys.readouterr()
        summary = root.summaries()[-1]
        assert outcomes(summary) == {"2026-11-22": (3, 1, 1, 0), "2026-11-21": (0, 2, 0, 0)}
        assert list(outcomes(summary)) == ["2026-11-22", "2026-11-21"], "the newest comes first"
        assert (summary["exit_code"], summary["surveys"], summary["nothing_new"]) == (3, 3, 1)
        assert [one["tiles"] for one in summary["outcomes"]] == [2, 4]
        table = output[output.rindex("survey ") :].splitlines()
        assert table[2].split()[:7] == ["2026-11-22", "some", "images", "failed", "1", "1", "0"]
        assert table[3].split()[-1] == str(root.page("2026-11-21"))
        assert table[4] == "nothing new in 1 more survey"
        assert "passed over: " in errors
        assert untouched.items() <= root.files().items()
        for survey in ("2026-11-21", "2026-11-22"):
            assert root.page(survey).stat().st_mtime_ns >= root.published(survey).stat().st_mtime_ns

        before = root.files()
        assert root.run("--no-retry-failed") == ExitCode.DONE
        assert capsys.readouterr().out == f"nothing new in 3 surveys of {root.surveys}\n"
        assert root.files() == before, "a night without work leaves nothing behind"

        assert root.run("--allow-failed-images") == ExitCode.DONE
        assert outcomes(root.summaries()[-1]) == {"2026-11-22": (0, 0, 1, 1)}, "what failed is tried again"

    @pytest.mark.parametrize("step", ["publish", pytest.param("report", marks=pytest.mark.soak)])
    def test_a_night_cut_short_after_scoring_is_caught_up(
        self, root: Root, monkeypatch: pytest.MonkeyPatch, step: str
    ) -> None:
        root.add("one", "a.png")
        root.run()
        first_page = root.page("one").read_bytes()
        root.add("one", "b.png")
        root.add("two", "a.png")

        the_step = getattr(publication, step)

        def cut_short(config: Any) -> Any:
            if config.survey == "one":
                raise KeyboardInterrupt
            return the_step(config)

        with monkeypatch.context() as patch:
            patch.setattr(publication, step, cut_short)
            assert root.run() == ExitCode.INTERRUPTED
        assert root.summaries()[-1]["exit_code"] == ExitCode.INTERRUPTED
        assert outcomes(root.summaries()[-1]) == {"two": (0, 1, 0, 0)}
        scored = {path: time for path, time in root.files().items() if "tiles" in path.parts}
        assert len(scored) == 3

        assert root.run() == ExitCode.DONE
        assert scored.items() <= root.files().items(), "nothing is scored again"
        assert outcomes(root.summaries()[-1]) == {"one": (0, 0, 0, 2)}
        assert root.page("one").read_bytes() != first_page
        assert root.page("one").stat().st_mtime_ns >= root.published("one").stat().st_mtime_ns

    def test_a_survey_that_fails_does_not_cost_the_others_their_turn(
        self, root: Root, monkeypatch: pytest.MonkeyPatch, capsys: Capture
    ) -> None:
        for survey in ("a", "b=wrong name", "c"):
            root.add(survey, "a.png")
        score = nightly.score

        def fails_for_c(config: Any, plan: Any) -> ExitCode:
            if config.survey_name == "c":
                raise RuntimeError("the reason\nin its last line")
            return score(config, plan)

        with monkeypatch.context() as patch:
            patch.setattr(nightly, "score", fails_for_c)
            assert root.run() == ExitCode.INTERNAL_ERROR
        errors = capsys.readouterr().err
        assert "survey 'c': error: RuntimeError: in its last line\n" in errors
        assert "survey 'b=wrong name': error: folder 'b=wrong name' cannot be a survey, since its name holds" in errors
        codes = {survey: code for survey, (code, *_) in outcomes(root.summaries()[-1]).items()}
        assert codes == {"a": ExitCode.DONE, "b=wrong name": ExitCode.WRONG_INPUT, "c": ExitCode.INTERNAL_ERROR}
        assert root.run() == ExitCode.WRONG_INPUT
        assert root.page("c").exists()
        assert root.run("--surveys", "?") == ExitCode.DONE

    @pytest.mark.parametrize(
        "step",
        [
            pytest.param("ssvq.results.publish.write_published", marks=pytest.mark.soak),
            "ssvq.results.report.job.put_output",
        ],
    )
    def test_two_at_once_end_in_the_same_state(self, root: Root, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
        """A second run, which finds one image more, passes as a whole just before the first puts what it has read."""
        root.add("one", "a.png", "b.png")
        module, name = step.rsplit(".", 1)
        the_step: Callable[..., Any] = getattr(sys.modules[module], name)
        codes: list[int] = []

        def pass_by(*arguments: Any) -> Any:
            if not root.surveys.joinpath("one", "c.png").exists():
                root.add("one", "c.png")
                codes.append(root.run())
            return the_step(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(step, pass_by)
            codes.append(root.run())
        assert codes == [ExitCode.DONE, ExitCode.DONE]
        counted = Scores(str(root.out)).sql("SELECT count(*) AS rows, count(DISTINCT tile_id) AS tiles FROM tiles")
        assert counted.to_pylist() == [{"rows": 6, "tiles": 6}]
        assert "c.png" in root.page("one").read_text()
        before = root.files()
        assert root.run() == ExitCode.DONE
        assert root.files() == before, "the two have left nothing to do"

    def test_a_dry_run_does_nothing_and_lost_files_are_made_again(self, root: Root, capsys: Capture) -> None:
        root.add("one", "a.png")
        assert root.run("--dry-run") == ExitCode.DONE
        assert "survey 'one': 1 images, 0 done, 1 to score" in capsys.readouterr().out
        assert not root.out.exists()
        root.run()
        root.page("one").unlink()
        before = root.files()
        capsys.readouterr()
        assert root.run("--dry-run") == ExitCode.DONE
        assert "to be published and reported" in capsys.readouterr().out
        assert root.files() == before

        for lost in (root.page("one"), root.published("one")):
            lost.unlink(missing_ok=True)
            assert root.run() == ExitCode.DONE
            assert lost.exists()
            assert outcomes(root.summaries()[-1]) == {"one": (0, 0, 0, 1)}
        assert root.page("one").stat().st_mtime_ns >= root.published("one").stat().st_mtime_ns


class TestWrongInput:
    """Each ends as one line before Ray starts."""

    def test_nothing_to_look_at(self, root: Root, capsys: Capture) -> None:
        def line(*flags: str) -> str:
            assert root.run(*flags) == ExitCode.WRONG_INPUT
            return capsys.readouterr().err.splitlines()[-1]

        assert f"ROOT {root.surveys} holds no folder of images" in line()
        (root.surveys / "empty").mkdir(parents=True)
        assert "no folder of ROOT" in line()
        root.add("one", "a.png")
        assert "--surveys matches none of the 2 folders" in line("--surveys", "2026-*")
        assert "not a finished bundle" in line("--model", str(root.surveys))
        assert "--reports" in line("--reports", "/dev/null/x")
        assert not list(root.out.glob("tiles")), "nothing is scored"

    def test_the_job_is_the_command(self) -> None:
        script = REPOSITORY / "jobs" / "nightly.py"
        run = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, cwd=REPOSITORY)
        assert run.returncode == ExitCode.WRONG_INPUT
        assert run.stderr.startswith("ssvq nightly: error: ")
        assert "ROOT" in run.stderr


def test_surveys_are_the_folders_below_the_root_the_last_name_first(tmp_path: Path) -> None:
    for name in ("2026-11-21", "2026-11-22", "2025-12-31", ".hidden", "_unfinished", "2026-11-21/inner"):
        (tmp_path / name).mkdir()
    (tmp_path / "a file.txt").touch()
    assert find_surveys(str(tmp_path)) == ["2026-11-22", "2026-11-21", "2025-12-31"]
    assert find_surveys(str(tmp_path), newest=1) == ["2026-11-22"]
    assert find_surveys(str(tmp_path), ["2025-*", "*-21"], newest=2) == ["2026-11-21", "2025-12-31"]
    with pytest.raises(InputError, match="holds no folder of images"):
        find_surveys(str(tmp_path / "a file.txt"))


def test_loose_pictures_linked_folders_and_names_that_no_survey_can_have(
    root: Root, tmp_path: Path, capsys: Capture
) -> None:
    write_image(root.surveys / "loose.png", np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "disk").mkdir()
    write_image(tmp_path / "disk" / "a.png", np.zeros((8, 8, 3), np.uint8))
    (root.surveys / "linked").symlink_to(tmp_path / "disk", target_is_directory=True)
    write_image(root.surveys / "a=b" / "a.png", np.zeros((8, 8, 3), np.uint8))
    assert find_surveys(str(root.surveys)) == ["linked", "a=b"]
    assert "belong to no survey (1, such as loose.png): move them into a folder" in capsys.readouterr().err
    assert root.run("--dry-run", "--surveys", "a=b") == ExitCode.WRONG_INPUT
    assert (
        "folder 'a=b' cannot be a survey, since its name holds one of / \\ = * ? [ ]: rename it"
        in capsys.readouterr().err
    )
