"""The actor through which a job hands out its images and counts how often its work was begun.

Ray Data tries a task again as often as its process dies. A task whose work kills every process would be tried for ever;
here it finds out that it has been begun before, and can give up the part that is to blame.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import ray

from ssvq.errors import ImageError
from ssvq.runtime.placement import here

ATTEMPTS = 2  # of a piece of work whose process dies
DIED = ImageError("read", f"the process that read it died {ATTEMPTS} times (out of memory?)")
CHUNKS_AHEAD = 4  # that are handed in before they are asked for


@dataclass
class _Attempts:
    nodes: list[str] = field(default_factory=list)
    noted: list[str] = field(default_factory=list)  # what each attempt was at when it was last heard of


class _Dispatcher:
    """Chunks of images by their number, and attempts by the name of the work."""

    def __init__(self) -> None:
        self._chunks: deque[str] = deque()
        self._is_whole = False
        self._given: dict[int, list[str]] = defaultdict(list)
        self._changed = asyncio.Condition()
        self._attempts: dict[str, _Attempts] = defaultdict(_Attempts)
        self._warnings: list[str] = []
        self._refusal: str | None = None

    async def put(self, chunk: str | None) -> None:
        """Hand in the next chunk, None after the last. Returns when more are wanted."""
        async with self._changed:
            if chunk is None:
                self._is_whole = True
            else:
                self._chunks.append(chunk)
            self._changed.notify_all()
            await self._changed.wait_for(lambda: len(self._chunks) < CHUNKS_AHEAD)

    async def chunk(self, planner: int, number: int) -> str | None:
        """The chunk that a planner takes as its first, second and so on; None when there is none left. A planner that
        is run again finds the same.
        """
        given = self._given[planner]
        if number < len(given):
            return given[number]
        async with self._changed:
            await self._changed.wait_for(lambda: self._chunks or self._is_whole)
            if not self._chunks:
                return None
            given.append(self._chunks.popleft())
            self._changed.notify_all()
            return given[-1]

    async def begin(self, work: str, node: str) -> list[str]:
        """Note that work begins on a node. Returns what each earlier attempt was at when its process died; one whose
        node is gone does not count, since its work is not to blame.
        """
        attempts = self._attempts[work]
        if attempts.nodes:
            alive = {known["NodeID"] for known in ray.nodes() if known["Alive"]}
            counted = [noted for noted, on in zip(attempts.noted, attempts.nodes, strict=True) if on in alive]
        else:
            counted = []
        attempts.nodes.append(node)
        attempts.noted.append("")
        return counted

    async def warn(self, text: str) -> None:
        """Take a warning for whoever runs the job, to whom what a process on a node prints is not shown."""
        if text not in self._warnings:
            self._warnings.append(text)

    async def warnings(self) -> list[str]:
        """All warnings so far."""
        return self._warnings

    async def refuse(self, text: str) -> None:
        """Take what is wrong with the settings, as a process on a node found out; the job fails by it."""
        self._refusal = text

    async def refusal(self) -> str | None:
        """What was wrong, if anything was."""
        return self._refusal

    async def note(self, work: str, item: str) -> None:
        """Note what the latest attempt at some work is at."""
        self._attempts[work].noted[-1] = item


class Dispatcher:
    """The actor as its job and its tasks see it; it lives on the node of the job."""

    def __init__(self) -> None:
        self._actor = ray.remote(_Dispatcher).options(num_cpus=0, **here()).remote()

    def put(self, chunk: str | None) -> None:
        """See `_Dispatcher.put`."""
        ray.get(self._actor.put.remote(chunk))

    def chunks(self, planner: int) -> "Iterator[tuple[str, Attempt]]":
        """The chunks of a planner, as they come, and this attempt at each; see `_Dispatcher.chunk`."""
        for number in count():
            chunk: str | None = ray.get(self._actor.chunk.remote(planner, number))
            if chunk is None:
                return
            yield chunk, self.begin(f"plan {planner} {number}")

    def begin(self, work: str) -> "Attempt":
        """Begin some work, whose name is the same each time that it is tried."""
        node = ray.get_runtime_context().get_node_id()
        return Attempt(self._actor, work, ray.get(self._actor.begin.remote(work, node)))

    def warn(self, text: str) -> None:
        """See `_Dispatcher.warn`."""
        ray.get(self._actor.warn.remote(text))

    def warnings(self) -> list[str]:
        """See `_Dispatcher.warnings`."""
        texts: list[str] = ray.get(self._actor.warnings.remote())
        return texts

    def refuse(self, text: str) -> None:
        """See `_Dispatcher.refuse`."""
        ray.get(self._actor.refuse.remote(text))

    def refusal(self) -> str | None:
        """See `_Dispatcher.refusal`."""
        text: str | None = ray.get(self._actor.refusal.remote())
        return text

    def close(self) -> None:
        """End the actor."""
        ray.kill(self._actor)


@dataclass(frozen=True)
class Attempt:
    """One attempt at some work. `earlier`: what each earlier one was at when its process died."""

    actor: Any
    work: str
    earlier: list[str]

    @property
    def is_over(self) -> bool:
        """Whether the work has been tried as often as it may."""
        return len(self.earlier) >= ATTEMPTS

    def may_try(self, item: str, items: int) -> bool:
        """Whether an item of so many may be tried: not one that an earlier attempt was at when its process died, and
        none after as many attempts as there are items. It is noted, from the second attempt on, as what this one is at.
        """
        if not self.earlier:
            return True  # it takes a millisecond to note it, and most work is begun once
        if item in self.earlier[ATTEMPTS - 1 :] or len(self.earlier) >= ATTEMPTS + items:
            return False
        ray.get(self.actor.note.remote(self.work, item))
        return True
