"""Batches on cores and on a GPU. The thread that keeps a GPU busy is tried on the CPU; it asks the same of it."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ssvq.inference.devices import Arrays, Cores, Gpu, Results, Runner, runner_for

CPU = torch.device("cpu")
SIDE, BATCH = 4, 4
RUNNERS = {"cores": Cores, "gpu": lambda work, batch: Gpu(work, batch, CPU)}


def tiles_of(numbers: range) -> np.ndarray:
    """Tiles that are filled with their numbers."""
    return np.stack([np.full((SIDE, SIDE, 3), number, np.uint8) for number in numbers])


def cells_of(numbers: range) -> np.ndarray:
    return np.stack([np.full((2, 2), number % 2 == 0) for number in numbers])


def double(pixels: Tensor, valid: Tensor | None) -> Results:
    """Twice the number of each tile, nothing, and a map of its valid cells."""
    numbers = pixels[:, 0, 0, 0].float()
    return 2 * numbers, None, torch.ones(len(pixels), 2, 2) if valid is None else valid.float()


def check(numbers: range, masked: bool, found: Arrays) -> None:
    score, nothing, cells = found
    assert nothing is None
    assert score is not None
    assert cells is not None
    np.testing.assert_array_equal(score, 2.0 * np.array(numbers))
    np.testing.assert_array_equal(cells, cells_of(numbers) if masked else np.ones((len(numbers), 2, 2)))


@pytest.mark.parametrize("kind", RUNNERS)
@given(requests=st.lists(st.tuples(st.integers(1, 11), st.booleans()), min_size=1, max_size=8))
@settings(max_examples=20)
def test_every_caller_has_the_results_of_its_own_tiles(kind: str, requests: list[tuple[int, bool]]) -> None:
    """Whatever is asked at the same time, in batches that all have one shape."""
    shapes = set()

    def work(pixels: Tensor, valid: Tensor | None) -> Results:
        shapes.add(tuple(pixels.shape))
        return double(pixels, valid)

    runner = RUNNERS[kind](work, BATCH)
    starts = np.cumsum([0] + [number for number, _ in requests])
    asked = [(range(start, start + n), masked) for start, (n, masked) in zip(starts, requests, strict=False)]
    with ThreadPoolExecutor(len(asked)) as threads:
        answers = threads.map(lambda one: runner.run(tiles_of(one[0]), cells_of(one[0]) if one[1] else None), asked)
        for (numbers, masked), found in zip(asked, answers, strict=True):
            check(numbers, masked, found)
    runner.close()
    assert shapes == {(BATCH, SIDE, SIDE, 3)}


def test_batches_are_filled_with_the_tiles_of_several_callers() -> None:
    """While the device works, what comes is gathered: 6 callers with a tile each need no 6 batches."""
    batches: list[int] = []
    goes_on = threading.Event()

    def work(pixels: Tensor, valid: Tensor | None) -> Results:
        batches.append(len(set(pixels[:, 0, 0, 0].tolist())))
        goes_on.wait(timeout=30)
        return double(pixels, valid)

    runner = Gpu(work, BATCH, CPU)
    with ThreadPoolExecutor(7) as threads:
        first = threads.submit(runner.run, tiles_of(range(1)), None)
        while not batches:
            time.sleep(0.01)
        others = [threads.submit(runner.run, tiles_of(range(n, n + 1)), None) for n in range(1, 7)]
        time.sleep(0.2)
        goes_on.set()
        for number, asked in enumerate([first, *others]):
            check(range(number, number + 1), masked=False, found=asked.result())
    runner.close()
    assert batches == [1, 4, 2], "the first was alone, the others came together"


@pytest.mark.parametrize("kind", RUNNERS)
def test_an_error_reaches_who_asked_and_the_next_is_answered(kind: str) -> None:
    def work(pixels: Tensor, valid: Tensor | None) -> Results:
        if int(pixels[0, 0, 0, 0]) == 7:
            raise ValueError("no")
        return double(pixels, valid)

    runner: Runner = RUNNERS[kind](work, BATCH)
    with pytest.raises(ValueError, match="no"):
        runner.run(tiles_of(range(7, 17)), None)
    check(range(3), masked=False, found=runner.run(tiles_of(range(3)), None))
    runner.close()


def test_a_closed_runner_leaves_no_thread() -> None:
    before = threading.active_count()
    for make in RUNNERS.values():
        runner = make(double, BATCH)
        runner.run(tiles_of(range(9)), None)
        runner.close()
    until = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < until:
        time.sleep(0.01)
    assert threading.active_count() == before


@pytest.mark.parametrize("cores", [1, 2, 5])
def test_every_core_works_on_a_batch_of_its_own(cores: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(cores)
    try:
        all_at_work = threading.Barrier(cores)

        def work(pixels: Tensor, valid: Tensor | None) -> Results:
            all_at_work.wait(timeout=30)  # is passed only if as many batches are worked on at a time
            return (torch.full((len(pixels),), torch.get_num_threads()),)

        (found,) = Cores(work, 1).run(tiles_of(range(2 * cores)), None)
        assert found is not None
        assert found.tolist() == [1] * (2 * cores)
        assert torch.get_num_threads() == cores
    finally:
        torch.set_num_threads(before)


def test_threads_begun_later_have_all_cores() -> None:
    before = torch.get_num_threads()
    Cores(double, 1)
    found = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert found == [before]


def test_the_device_decides() -> None:
    assert isinstance(runner_for(CPU, double, 1), Cores)
