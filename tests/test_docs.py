"""What the documents say of the code is so."""

import re
from pathlib import Path

import pyarrow as pa
import pytest

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
