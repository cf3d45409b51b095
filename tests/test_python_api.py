"""What `import ssvq` gives, and that the examples run."""

import subprocess
import sys
from pathlib import Path

import pytest

import ssvq
from tests.conftest import REPOSITORY


def run(*arguments: str | Path, folder: Path) -> str:
    done = subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_name_is_there() -> None:
    for name in ssvq.__all__:
        assert getattr(ssvq, name) is not None
    assert set(dir(ssvq)) == set(ssvq.__all__)
    with pytest.raises(AttributeError, match="no attribute 'fly'"):
        ssvq.fly  # noqa: B018


def test_import_and_scores_load_neither_torch_nor_ray(tmp_path: Path) -> None:
    code = "import sys, ssvq; ssvq.Scores; ssvq.ScoreConfig; assert not {'torch', 'ray'} & set(sys.modules)"
    run("-c", code, folder=tmp_path)


def test_types_are_announced() -> None:
    assert (Path(ssvq.__file__).parent / "py.typed").exists()


def test_adding_a_method(tmp_path: Path) -> None:
    said = run(REPOSITORY / "examples" / "add_method.py", folder=tmp_path)
    assert float(said.split("AUROC ")[1]) > 0.9


@pytest.mark.slow
def test_from_own_photographs_to_findings_and_questions(tmp_path: Path) -> None:
    made = run(REPOSITORY / "examples" / "own_photographs.py", folder=tmp_path)
    assert "findings" in made
    asked = run(REPOSITORY / "examples" / "ask_results.py", folder=tmp_path)
    assert "surveys: ['survey']" in asked
    assert "tiles at a false alarm rate of 5 %:" in asked
