"""The words of the project are plain English: no phrase that translates another grammar, and no endless sentence."""

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
    r"\bdoes of itself\b",
    r"\bthose (which|of those)\b",
    r"\bnot till\b",
    r"\bleft out where\b",
]
"""Phrases that translate another language's grammar. The right word depends on the sentence."""

FORBIDDEN_IN_PAGES = [
    r"\bin (the |its |their )?place of\b",  # instead of
    r"\bin its place\b",
    r"\bby itself\b",  # on its own
    r"\bof which (it|they|there|each|one)\b",
    r"\bwhere (there|it|they) (is|are)\b",  # if
    r"\bstands? (in|beside|on|for|under|there|all)\b",
    r"\bgoes (in )?with\b",  # needs
    r"\bgo(es)? on\b",  # continue
    r"\banew\b",  # again
    r"\bso few\b",
    r"\b(is|are|was|were) to (be|do|have)\b",
    r"\bless the (other|classifier)\b",  # minus
    r"\bthat which\b",
    r"\b(tiles|steps|samples|bytes|MB|GiB|megapixels|images) an? (second|tile|CPU|core|step|hour)\b",  # per
    r"\bsome \d",  # about
    r"\bbut for\b",
    r"\bis (put|said|told|made) (to|of|by)\b",
    r"\bmade of\b",
    r"\bwhat (it|they) (is|are) of\b",
    r"\b(is|are) of (the|a|an|another|its|one)\b",  # belongs to
    r"\bfrom (then|there|it) on\b(?! \|)",
    r"\b(tell|tells|told) (whether|apart|which)\b",
    r"\b(is|are) taken (as|for|to)\b",
    r"\bif it has one\b",
    r"\bmends?\b",  # repair
    r"\bdo without\b",
    r"\bmeanwhile\b",
]
"""The same, for what is not code."""

PAGES = sorted(
    [
        *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "cluster/README.md")),
        *(REPOSITORY / "docs").rglob("*.md"),
    ]
)
LONGEST = 28
"""Words of a sentence, code counted as one word."""

RELATIVE = r"\b(?:which|whose|that|who)\b"
MOST_RELATIVE = 2
"""Relative clauses of a sentence: which, whose, that, who."""

WRITTEN = [
    "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff", ".github", "docs", "jobs", "cluster", "examples",
    "mkdocs.yml", "Makefile",
]  # fmt: skip


def sentences(text: str) -> list[str]:
    """Sentences of a page, with those of its table cells: without code, pictures and headings."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    text = re.sub(r"^\|(.*)$", lambda row: row[1].replace("|", "\n\n"), text, flags=re.M)
    paragraphs = re.split(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.) )", text)
    found = []
    for paragraph in paragraphs:
        if paragraph.lstrip("\n").startswith(("#", "!", "    ", ":::")):
            continue
        line = re.sub(r"`[^`]*`", "code", " ".join(paragraph.split())).replace("**", "")
        line = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", line)
        found += re.split(r"(?<=[.!?:])\s+", line)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_sentences_of_pages_are_short(page: Path) -> None:
    too_long = [one for one in sentences(page.read_text()) if len(one.split()) > LONGEST]
    assert too_long == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_sentences_of_pages_do_not_stack_relative_clauses(page: Path) -> None:
    stacked = [one for one in sentences(page.read_text()) if len(re.findall(RELATIVE, one)) > MOST_RELATIVE]
    assert stacked == []


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


@pytest.mark.parametrize(
    ("phrases", "files"), [(FORBIDDEN, [*WRITTEN, "ssvq"]), (FORBIDDEN_IN_PAGES, WRITTEN)], ids=["all", "pages"]
)
def test_forbidden_phrases_are_gone(phrases: list[str], files: list[str]) -> None:
    grep = ["git", "grep", "-nIP", "|".join(phrases), "--", *files, ":!*.json", ":!*.svg"]
    found = subprocess.run(grep, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert found.returncode in (0, 1), found.stderr
    assert found.stdout == ""
