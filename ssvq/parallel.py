"""Runs work in threads or processes; results come in order, with a bounded number of them ahead."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(executor: Executor, work: Callable[[Item], Result], items: Iterable[Item], ahead: int) -> Iterator[Result]:
    """The result of each item, in order.

    At most `ahead` items are started before their results are consumed, so memory does not grow if the consumer is slow
    or one item takes long. (`Executor.map` starts all of them at once.)
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
