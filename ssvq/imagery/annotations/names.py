"""Matches the names in a label tool's file to images.

Tools keep a whole path, a part of it, or the name alone. Label Studio adds eight digits before the name of an upload,
also in its COCO export.
"""

import re
from collections import defaultdict
from collections.abc import Iterable

UPLOAD = re.compile(r"^[0-9a-f]{8}-")


class ImageNames:
    """Names, each with a number, to be found by a path or address.

    A name matches a path if the shorter one is the end of the longer, by whole folders, ignoring case.
    """

    def __init__(self, names: Iterable[tuple[str, int]]) -> None:
        self._by_last: dict[str, list[tuple[list[str], int]]] = defaultdict(list)
        for name, number in names:
            parts = _parts(name)
            for last in dict.fromkeys([parts[-1], UPLOAD.sub("", parts[-1])]):
                self._by_last[last.lower()].append(([*parts[:-1], last], number))

    def find(self, path: str) -> list[int]:
        """The numbers of the names that match a path best: equal names, else those that share most folders with it,
        else those in the same case. Several if these cannot be told apart.
        """
        parts = _parts(path)
        ranked = [(_rank(name, parts), number) for name, number in self._by_last.get(parts[-1].lower(), [])]
        best = max((rank for rank, _ in ranked if rank is not None), default=None)
        return [] if best is None else sorted({number for rank, number in ranked if rank == best})


def _parts(path: str) -> list[str]:
    return [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")] or [""]


def _rank(name: list[str], path: list[str]) -> tuple[bool, int, bool] | None:
    """How well a name matches a path; None if it does not."""
    shared = min(len(name), len(path))
    ends = name[-shared:], path[-shared:]
    if [part.lower() for part in ends[0]] != [part.lower() for part in ends[1]]:
        return None
    return name == path, shared, ends[0] == ends[1]
