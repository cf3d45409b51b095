"""Reads CSV as spreadsheets save it: with or without a byte-order mark; with commas, semicolons or tabs; in UTF-8 or
UTF-16.
"""

import codecs

import pyarrow as pa
import pyarrow.csv

from ssvq.errors import InputError

SEPARATORS = (",", ";", "\t")


def read_csv(data: bytes, name: str) -> pa.Table:
    """The table of a CSV file. All columns are text: a group 0012 is not the number 12. Empty cells are null.

    Raises InputError, which begins with the name, for another encoding, and pyarrow's ArrowInvalid for a file that is
    not a table.
    """
    text = decode_csv(data, name)
    utf8 = pa.BufferReader(text.encode())
    parsing = pyarrow.csv.ParseOptions(delimiter=separator_of(text), newlines_in_values=True)
    header = pyarrow.csv.open_csv(utf8, parse_options=parsing).schema.names
    texts = pyarrow.csv.ConvertOptions(
        column_types=dict.fromkeys(header, pa.string()), strings_can_be_null=True, null_values=[""]
    )
    utf8.seek(0)
    table = pyarrow.csv.read_csv(utf8, parse_options=parsing, convert_options=texts)
    return table.rename_columns([column.strip() for column in table.column_names])


def separator_of(text: str) -> str:
    """The separator of the columns: the most frequent candidate in the first line."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    return max(SEPARATORS, key=first.count)


def decode_csv(data: bytes, name: str) -> str:
    """The text of a CSV file without its byte-order mark.

    Raises InputError, which begins with the name, unless it is UTF-8, or UTF-16 with a mark.
    """
    is_utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return data.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{name} is not text in UTF-8: save it as CSV UTF-8") from None
