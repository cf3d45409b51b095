"""`make audit` says what is known, and what could not be asked, and never fails."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.support.images import REPOSITORY


@pytest.fixture
def audit() -> ModuleType:
    specification = importlib.util.spec_from_file_location("audit", REPOSITORY / ".ci" / "audit.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def program(folder: Path, script: str) -> str:
    path = folder / "pip-audit"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def answer(*packages: dict[str, Any]) -> str:
    return f"echo '{json.dumps({'dependencies': packages})}'; exit 1"


SOUND = {"name": "a", "version": "1", "vulns": []}
SKIPPED = {"name": "b", "skip_reason": "not found"}
FAULTY = {"name": "c", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.1"]}]}
OPEN = {"name": "d", "version": "3", "vulns": [{"id": "PYSEC-2", "fix_versions": []}]}


@pytest.mark.parametrize(
    ("script", "lines"),
    [
        (answer(SOUND, SKIPPED), ["0 advisories for 1 of 2 packages"]),
        (
            answer(FAULTY, OPEN),
            [
                "c 2: PYSEC-1, mended in 2.1",
                "d 3: PYSEC-2, mended in no version yet",
                "2 advisories for 2 of 2 packages",
            ],
        ),
        (answer(SKIPPED), ["not made: the index has no advisories of any of the 1 packages"]),
        ("echo 'a traceback\nConnectionError: no route' >&2; exit 1", ["not made: ConnectionError: no route"]),
        ("exit 1", ["not made: pip-audit said nothing"]),
        ("exec sleep 60", ["not made: no answer within 0.5 s"]),
    ],
)
def test_what_it_says(
    audit: ModuleType, tmp_path: Path, script: str, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "SECONDS", 0.5 if "sleep" in script else 30)
    assert audit.report(tmp_path / "constraints.txt", program(tmp_path, script)) == lines


def test_without_the_program(audit: ModuleType, tmp_path: Path) -> None:
    missing = str(tmp_path / "pip-audit")
    assert audit.report(tmp_path / "constraints.txt", missing) == ["not made: pip-audit is not installed"]
