"""Imports point one way, so that most of the code is used and tested without Ray, and some without torch."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("modules", "without"),
    [
        ("ssvq.imagery.units, ssvq.imagery.catalog, ssvq.imagery.surveys, ssvq.demo.synthetic", ("ray", "torch")),
        ("ssvq.results.query, ssvq.results.pictures.overlay, ssvq.cli", ("ray", "torch")),
        ("ssvq.logs, ssvq.progress, ssvq.errors", ("ray", "torch", "pandas", "pydantic")),
        ("ssvq.results.export.job, ssvq.results.publish", ("ray", "torch", "matplotlib", "pandas")),
        ("ssvq.results.report.job", ("ray", "torch", "pandas")),
        ("ssvq.scoring.stages, ssvq.scoring.writer", ("torch",)),  # what processes load that read or write
        ("ssvq.methods, ssvq.model.bundle, ssvq.inference.scorer, ssvq.scoring.writer, ssvq.scores.ledger", ("ray",)),
    ],
)
def test_layers(modules: str, without: tuple[str, ...]) -> None:
    code = f"import sys, {modules}; print([name for name in {without} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
