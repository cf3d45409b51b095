"""The actor that hands out a job's images and counts attempts at its work.

Ray Data retries a task whenever its process dies. A task that kills every process would be retried for ever. Through
this actor it learns that it was tried before, and can give up the part that causes it.
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

ATTEMPTS = 2  # attempts at work whose process dies
DIED = ImageError("read", f"the process that read it died {ATTEMPTS} times (out of memory?)")
CHUNKS_AHEAD = 4  # chunks that wait to be fetched


@dataclass
class _Attempts:
    nodes: list[str] = field(default_factory=list)
    noted: list[str] = field(default_factory=list)  # the last known item of each attempt


class _Dispatcher:
    """Chunks of images by number, and attempts by the name of the work."""

    def __init__(self) -> None:
        self._chunks: deque[str] = deque()
        self._is_whole = False
        self._given: dict[int, list[str]] = defaultdict(list)
        self._changed = asyncio.Condition()
        self._attempts: dict[str, _Attempts] = defaultdict(_Attempts)
        self._warnings: list[str] = []
        self._refusal: str | None = None

    async def put(self, chunk: str | None) -> None:
        """Add the next chunk, None after the last. Returns when more are wanted."""
        async with self._changed:
            if chunk is None:
                self._is_whole = True
            else:
                self._chunks.append(chunk)
            self._changed.notify_all()
            await self._changed.wait_for(lambda: len(self._chunks) < CHUNKS_AHEAD)

    async def chunk(self, planner: int, number: int) -> str | None:
        """The first, second, ... chunk of a planner; None when none is left. A planner that is run again gets the
        same chunks.
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
        """Record that work begins on a node. Returns the item at which each earlier attempt died.

        An attempt whose node is gone does not count, since its work did not cause that.
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
        """Pass a warning to the driver: a person does not see what processes on nodes print."""
        if text not in self._warnings:
            self._warnings.append(text)

    async def warnings(self) -> list[str]:
        """All warnings so far."""
        return self._warnings

    async def refuse(self, text: str) -> None:
        """Report wrong settings that a process on a node found; the job fails with this message."""
        self._refusal = text

    async def refusal(self) -> str | None:
        """The reported error in the settings, if any."""
        return self._refusal

    async def note(self, work: str, item: str) -> None:
        """Record the current item of the latest attempt at some work."""
        self._attempts[work].noted[-1] = item


class Dispatcher:
    """The actor as seen by its job and its tasks. It lives on the job's node."""

    def __init__(self) -> None:
        self._actor = ray.remote(_Dispatcher).options(num_cpus=0, **here()).remote()

    def put(self, chunk: str | None) -> None:
        """See `_Dispatcher.put`."""
        ray.get(self._actor.put.remote(chunk))

    def chunks(self, planner: int) -> "Iterator[tuple[str, Attempt]]":
        """The chunks of a planner, as they come, with this attempt at each; see `_Dispatcher.chunk`."""
        for number in count():
            chunk: str | None = ray.get(self._actor.chunk.remote(planner, number))
            if chunk is None:
                return
            yield chunk, self.begin(f"plan {planner} {number}")

    def begin(self, work: str) -> "Attempt":
        """Begin some work. Its name is the same for every attempt."""
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
    """One attempt at some work. `earlier`: the item at which each earlier attempt died."""

    actor: Any
    work: str
    earlier: list[str]

    @property
    def is_over(self) -> bool:
        """Whether the work has used up its attempts."""
        return len(self.earlier) >= ATTEMPTS

    def may_try(self, item: str, items: int) -> bool:
        """Whether to try one of `items` items: not one at which an earlier attempt died, and none after as many
        attempts as there are items.

        From the second attempt on, the item is recorded as the current one.
        """
        if not self.earlier:
            return True  # recording takes a millisecond, and most work is begun once
        if item in self.earlier[ATTEMPTS - 1 :] or len(self.earlier) >= ATTEMPTS + items:
            return False
        ray.get(self.actor.note.remote(self.work, item))
        return True
