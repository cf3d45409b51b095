"""Work that is shared among threads or processes, its results in order and a bounded number of them ahead."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(executor: Executor, work: Callable[[Item], Result], items: Iterable[Item], ahead: int) -> Iterator[Result]:
    """The result of each item, in their order. No more than `ahead` items are begun before whoever takes the results
    has taken them, so that memory does not grow where taking is slower, or one item takes long. (`Executor.map` begins
    all of them at once.)
    """
    begun: deque[Future[Result]] = deque()
    waiting = iter(items)
    try:
        while True:
            begun.extend(executor.submit(work, item) for item in islice(waiting, ahead - len(begun)))
            if not begun:
                return
            yield begun.popleft().result()
    finally:
        for future in begun:
            future.cancel()
