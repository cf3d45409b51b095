"""The table of findings as a file: written whole, read with null for columns that earlier versions lack, and updated
with states.
"""

import json
from collections import Counter
from typing import Any

import pyarrow as pa

from ssvq.errors import InputError, reason_of
from ssvq.io import parquet, storage
from ssvq.io.parquet import DamagedError
from ssvq.results.findings.decisions import Decision, read_decisions
from ssvq.results.findings.states import decide
from ssvq.scores.findings import FINDINGS, STATES, Finding, to_table
from ssvq.scores.layout import Partition, partitions_with_findings
from ssvq.scores.partitions import METADATA

TRIES = 5  # tries of a refresh, while others write decisions too


def read_findings(partition: Partition) -> tuple[pa.Table, str | None] | None:
    """The table of a partition, and the state of the ledger from which it was made; None without a table.

    Raises InputError for a damaged table.
    """
    found = _read(partition.findings)
    return None if found is None else (found[0], found[1].get("state"))


def read_gone(partition: Partition) -> pa.Table | None:
    """What the earlier survey found and is gone; None where findings were compared with no survey.

    Raises InputError for a damaged table.
    """
    found = _read(partition.gone)
    return None if found is None else found[0]


def refresh_states(scores: str, survey: str) -> dict[Partition, pa.Table]:
    """Fill the states of a survey's tables, of all models and tilings, from its decisions. Returns the tables.

    Others may write decisions meanwhile: the last writer has read all of them.
    """
    partitions = partitions_with_findings(scores, survey)
    tables: dict[Partition, pa.Table] = {}
    decisions: list[Decision] = []
    for _ in range(TRIES):
        before, decisions = decisions, read_decisions(scores, survey)
        if tables and len(before) == len(decisions):
            break
        for partition in partitions:
            found = _read(partition.findings)
            if found is None:
                continue
            decided, _ = decide(Finding.from_table(found[0]), decisions)
            tables[partition] = to_table(decided)
            _put(partition, tables[partition], found[1])
    return tables


def told_states(states: Counter[str]) -> str:
    """`40 findings: 28 new, 12 confirmed`."""
    told = ", ".join(f"{states[name]:,} {name}" for name in STATES if states[name])
    return f"{states.total():,} finding{'' if states.total() == 1 else 's'}" + (f": {told}" if told else "")


def _put(partition: Partition, table: pa.Table, described: dict[str, Any]) -> None:
    metadata = {**(FINDINGS.metadata or {}), METADATA: json.dumps(described)}
    try:
        parquet.put(partition.findings, table.replace_schema_metadata(metadata))
    except storage.StorageError as error:
        raise InputError(f"{partition.findings} cannot be written: {reason_of(error)}") from None


def _read(address: str) -> tuple[pa.Table, dict[str, Any]] | None:
    """The table and its metadata. Columns that an earlier version lacks are null."""
    try:
        data = storage.read_bytes(address)
        metadata = parquet.decode(data).schema.metadata or {}
        table = parquet.decode(data, schema=FINDINGS, optional=FINDINGS.names)
    except FileNotFoundError:
        return None
    except storage.StorageError as error:
        raise InputError(f"{address} cannot be read: {reason_of(error)}") from None
    except DamagedError as error:
        raise InputError(f"{address} is damaged ({error}): make it anew by `ssvq findings`") from None
    return table, json.loads(metadata.get(METADATA, b"{}"))
