"""Writes the answer of a query: as a table for a person, as CSV, JSON or Parquet."""

import io
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from rich import box
from rich.console import Console
from rich.table import Table

from ssvq.errors import one_line

ROWS_SHOWN = 1000


def write_answer(answer: pa.Table, form: str, file: Any) -> None:
    """Write a table to an open binary file as `table`, `csv`, `json` or `parquet`."""
    if form == "csv":
        pyarrow.csv.write_csv(_plain(answer), file)
    elif form == "json":
        connection = duckdb.connect()
        connection.register("answer", answer)
        rows = connection.execute("SELECT to_json(answer)::VARCHAR FROM answer").fetchall()
        file.write(("[" + ",\n ".join(row[0] for row in rows) + "]\n").encode())
    elif form == "parquet":
        pq.write_table(answer, file)
    else:
        file.write(_render(answer).encode())
    file.flush()


def _plain(answer: pa.Table) -> pa.Table:
    """The table with nested and binary columns as text, since CSV has no type for them."""
    connection = duckdb.connect()
    connection.register("answer", answer)
    nested = [f.name for f in answer.schema if pa.types.is_nested(f.type) or pa.types.is_binary(f.type)]
    quoted = [f'"{name.replace(chr(34), chr(34) * 2)}"' for name in nested]
    columns = ", ".join(f"{name}::VARCHAR AS {name}" for name in quoted)
    replaced = f"REPLACE ({columns})" if nested else ""
    return connection.sql(f"SELECT * {replaced} FROM answer").to_arrow_table()


def _render(answer: pa.Table) -> str:
    """The table for a person. Wide values, often paths, are not cut; control characters are replaced for the
    terminal.
    """
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for field in answer.schema:
        number = pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
        table.add_column(one_line(field.name), justify="right" if number else "left", no_wrap=True)
    for row in answer.slice(0, ROWS_SHOWN).to_pylist():
        table.add_row(*[_cell(value) for value in row.values()])
    buffer = io.StringIO()
    console = Console(file=buffer, width=10_000, markup=False, highlight=False, emoji=False)
    console.print(table)
    lines = [line.rstrip() for line in buffer.getvalue().splitlines()]
    if len(answer) > ROWS_SHOWN:
        lines.append(f"... {len(answer) - ROWS_SHOWN} more rows; --format csv gives all")
    else:
        lines.append(f"{len(answer)} row{'' if len(answer) == 1 else 's'}")
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return "" if value is None else one_line(str(value))
