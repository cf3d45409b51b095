"""Which image a file of a label tool means by a name. Tools keep a whole path, a part of it, or the name alone; Label
Studio puts eight digits before the name of an upload, also in what it exports as COCO.
"""

import re
from collections import defaultdict
from collections.abc import Iterable

UPLOAD = re.compile(r"^[0-9a-f]{8}-")


class ImageNames:
    """Names of which each belongs to a number, found by a path or address. A name and a path are of the same image
    where the shorter is the end of the longer, by whole folders, in any case of letters.
    """

    def __init__(self, names: Iterable[tuple[str, int]]) -> None:
        self._by_last: dict[str, list[tuple[list[str], int]]] = defaultdict(list)
        for name, number in names:
            parts = _parts(name)
            for last in dict.fromkeys([parts[-1], UPLOAD.sub("", parts[-1])]):
                self._by_last[last.lower()].append(([*parts[:-1], last], number))

    def find(self, path: str) -> list[int]:
        """The numbers of the names that fit a path best: equal ones, else those that share the most folders with it,
        else those whose case is the same. Several, where these cannot be told apart.
        """
        parts = _parts(path)
        ranked = [(_rank(name, parts), number) for name, number in self._by_last.get(parts[-1].lower(), [])]
        best = max((rank for rank, _ in ranked if rank is not None), default=None)
        return [] if best is None else sorted({number for rank, number in ranked if rank == best})


def _parts(path: str) -> list[str]:
    return [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")] or [""]


def _rank(name: list[str], path: list[str]) -> tuple[bool, int, bool] | None:
    """How well a name fits a path; None where it does not."""
    shared = min(len(name), len(path))
    ends = name[-shared:], path[-shared:]
    if [part.lower() for part in ends[0]] != [part.lower() for part in ends[1]]:
        return None
    return name == path, shared, ends[0] == ends[1]
