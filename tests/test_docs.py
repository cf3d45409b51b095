"""What the documents say of the code is so: columns, links, commands and settings."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa
import pytest

from ssvq.cli import COMMANDS, parse
from ssvq.imagery.tile_labels import LABELS
from ssvq.results.findings.decisions import DECISIONS
from ssvq.scores.findings import FINDINGS
from ssvq.scores.schema import LEDGER, SCORE_MAP

ROOT = Path(__file__).parent.parent


def documented(part: str) -> dict[str, str]:
    """Columns of a table of docs/reference/schema.md, and their types."""
    text = (ROOT / "docs" / "reference" / "schema.md").read_text().split("## ")
    table = next(section for section in text if section.startswith(part))
    rows = re.findall(r"^\| ([a-z0-9_, ]+) \| ([a-z0-9 ]+) \|", table, re.M)
    return {name: kind for names, kind in rows for name in names.split(", ") if kind != "type"}


TABLES = {"Score maps": SCORE_MAP, "Ledger": LEDGER, "Findings": FINDINGS, "Decisions": DECISIONS, "Labels": LABELS}


@pytest.mark.parametrize(("part", "schema"), TABLES.items(), ids=TABLES)
def test_every_column_is_documented_with_its_type(part: str, schema: pa.Schema) -> None:
    found = documented(part)
    assert list(found) == [name for name in found if name in schema.names]
    assert set(found) == set(schema.names)
    for field in schema:
        kind = str(field.type)
        said = found[field.name]
        if kind.startswith("list<element: list") or kind.startswith("list<item: list"):
            assert said == "list of lists of halffloat"
        elif kind.startswith("list"):
            assert said == "list of doubles"
        elif kind.startswith("struct"):
            assert said == "struct of doubles"
        elif kind.startswith("timestamp"):
            assert said == "timestamp"
        else:
            assert kind == said, field


# Pages --------------------------------------------------------------------------------------------------------------

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "cluster/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)


def name_of(value: object) -> str:
    return str(value.relative_to(ROOT)) if isinstance(value, Path) else str(value)[:50]


def test_the_readme_is_one_page() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


@pytest.mark.skipif(find_spec("mkdocs") is None, reason="needs the extra `docs`")
def test_the_site_builds_with_every_link_and_asks_no_network(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    for page in tmp_path.rglob("*.html"):
        loaded = re.findall(r"<(?:script|img|iframe)[^>]+src=\"(https?:[^\"]+)", page.read_text())
        loaded += re.findall(
            r"<link[^>]+rel=\"(?:stylesheet|preconnect)\"[^>]+href=\"(https?:[^\"]+)", page.read_text()
        )
        assert loaded == [], page
    settings = (tmp_path / "reference" / "settings.html").read_text()
    for command_name, spec in COMMANDS.items():
        assert f"ssvq {command_name}" in settings
        assert spec.settings.__doc__
    assert "--optimiser.learning-rate" in settings


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_of_pages_lead_to_files(page: Path) -> None:
    text = BLOCK.sub("", page.read_text())
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path = target.partition("#")[0]
        if path and "://" not in path and path != "../reference/settings.md" and path != "settings.md":
            assert (page.parent / path).exists(), target


def shell_lines(text: str) -> Iterator[list[str]]:
    """The words of each command in the shell blocks of a page."""
    for kind, block in BLOCK.findall(text):
        if kind != "sh":
            continue
        begun = ""
        for line in block.replace("\\\n", " ").splitlines():
            begun += ("\n" if begun else "") + line
            try:
                words = shlex.split(begun, comments=True)
            except ValueError:  # a quotation that goes on
                continue
            begun = ""
            yield words
        assert not begun, begun


def our_commands() -> list[tuple[Path, str, list[str]]]:
    """Page, command and arguments of each `ssvq COMMAND` and `jobs/COMMAND.py`."""
    found = []
    for page in PAGES:
        for words in shell_lines(page.read_text()):
            for i, word in enumerate(words):
                rest = words[i + 1 :]
                end = next((k for k, one in enumerate(rest) if one in ("|", "&&", ";", "&", ">")), len(rest))
                job = re.fullmatch(r"jobs/(\w+)\.py", word)
                if job:
                    found.append((page, job[1], rest[:end]))
                elif Path(word).name == "ssvq" and rest and (i == 0 or words[i - 1] in ("&&", "nice")):
                    found.append((page, rest[0], rest[1:end]))
    return found


@pytest.mark.parametrize(("page", "command", "arguments"), our_commands(), ids=name_of)
def test_commands_of_pages_are_accepted(
    page: Path, command: str, arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.yaml").write_text("images: photos\nout: s3://bucket/bundle\n")
    assert command in COMMANDS, f"{page}: ssvq {command}"
    parse(command, COMMANDS[command].settings, arguments)


def test_every_guide_was_looked_at() -> None:
    commands = {command for _, command, _ in our_commands()}
    assert set(COMMANDS) - {"demo"} <= commands


OTHER_FLAGS = {"--working-dir", "--runtime-env-json", "--entrypoint-resources", "--block", "--help", "--version"}


def known_flags() -> set[str]:
    """Every flag of every command, nested ones with their group."""
    from pydantic import BaseModel

    flags = set(OTHER_FLAGS)

    def add(model: type[BaseModel], group: str) -> None:
        for name, field in model.model_fields.items():
            flag = str(field.validation_alias or field.alias or name).replace("_", "-")
            flags.update({f"--{group}{flag}", f"--no-{group}{flag}"})
            if isinstance(field.default, BaseModel):
                add(type(field.default), f"{group}{flag}.")

    for spec in COMMANDS.values():
        add(spec.settings, "")
    return flags


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent.name != "cluster"], ids=name_of)
def test_flags_in_sentences_exist(page: Path) -> None:
    text = BLOCK.sub("", page.read_text())
    named = {flag for code in re.findall(r"`([^`]+)`", text) for flag in re.findall(r"(?<!\S)--[a-z][\w.-]*", code)}
    if page.name in ("performance.md", "accuracy.md", "accuracy-paper.md", "reliability.md", "operations.md"):
        named = {flag for flag in named if flag in known_flags() or not BENCHMARK.search(text)}
    assert named <= known_flags()


BENCHMARK = re.compile(r"benchmarks\.|kubectl|ray ")  # pages whose commands are of other programs too
