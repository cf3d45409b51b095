"""The words of the project are plain English: no phrase of shared style's left column, and no endless sentence."""

import re
import subprocess
from pathlib import Path

import pytest

from ssvq.cli import COMMANDS
from tests.conftest import REPOSITORY

FORBIDDEN = [
    r"a test that nothing is chosen by",
    r"nothing is chosen by",
    r"keeps what its image's mask, if it has one, shows of it",
    r"what to do when stands",
    r"stands? in \[",  # a page has, lists or describes
    r"what became of those of which",
    r"when they were to be put",
    r"Anomalous is what so few",
    r"Leave out tiles with more than this share",
    r"A published file is true",
    r"whose memory is used for it",
    r"all over a tile",
    r"what is to do\b",
    r"what is to be done",
    r"\bby turns\b",
    r"\bnought\b",
    r"as it does of itself",
    r"\bin the place of\b",
    r"so that nothing could",
    r"is told by",
]
"""Phrases that translate another language's grammar. The right word depends on the sentence."""

PAGES = sorted(
    [
        *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "cluster/README.md")),
        *(REPOSITORY / "docs").rglob("*.md"),
    ]
)
LONGEST = 42
"""Words of a sentence, code counted as one word."""

WRITTEN = [
    "README.md", "CONTRIBUTING.md", "docs", "ssvq", "jobs", "cluster", "examples", "mkdocs.yml", "Makefile",
]  # fmt: skip


def sentences(text: str) -> list[str]:
    """Sentences of the prose of a page: without code, tables, pictures and headings."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    paragraphs = re.split(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.) )", text)
    prose = [p for p in paragraphs if not p.lstrip().startswith(("|", "#", "!", "    ", ":::"))]
    found = []
    for paragraph in prose:
        line = re.sub(r"`[^`]*`", "code", " ".join(paragraph.split()))
        line = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", line)
        found += re.split(r"(?<=[.!?:;])\s+", line)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_sentences_of_pages_are_short(page: Path) -> None:
    too_long = [one for one in sentences(page.read_text()) if len(one.split()) > LONGEST]
    assert too_long == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_a_page_says_first_what_it_is_for(page: Path) -> None:
    first = next(p for p in page.read_text().split("\n\n") if not p.startswith("#"))
    assert not first.startswith(("|", "```", "!", "-", ":::")), "a page begins with a sentence"


@pytest.mark.parametrize("command", list(COMMANDS))
def test_help_has_short_sentences(command: str) -> None:
    settings = COMMANDS[command].settings
    for name, field in settings.model_fields.items():
        for one in sentences(field.description or ""):
            assert len(one.split()) <= LONGEST, name


def test_forbidden_phrases_are_gone() -> None:
    pattern = "|".join(FORBIDDEN)
    grep = ["git", "grep", "-nIP", pattern, "--", *WRITTEN]
    found = subprocess.run(grep, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert found.returncode in (0, 1), found.stderr
    assert found.stdout == ""
