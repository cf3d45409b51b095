"""Batches on cores and on a GPU. The GPU is one of stand-ins that write down what is asked of it, in what order."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import Tensor

from ssvq.scoring.devices import Batch, Cores, Gpu, runner_for

CPU = torch.device("cpu")


def batches_of(n: int, masked: bool = True) -> list[Batch]:
    """Batches of one tile of 4x4 pixels, each filled with its number."""
    return [(np.full((1, 4, 4, 3), i, np.uint8), np.full((1, 1, 1), i % 2 == 0) if masked else None) for i in range(n)]


def test_batches_are_worked_on_in_order() -> None:
    found = list(Cores().map(lambda pixels, valid: (int(pixels[0, 0, 0, 0]), valid), batches_of(20)))
    assert [number for number, _ in found] == list(range(20))
    assert [bool(valid) for _, valid in found] == [i % 2 == 0 for i in range(20)]


def test_no_mask_stays_no_mask() -> None:
    assert list(Cores().map(lambda pixels, valid: valid, batches_of(3, masked=False))) == [None] * 3


@pytest.mark.parametrize("cores", [1, 2, 5])
def test_every_core_works_on_a_batch_of_its_own(cores: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(cores)
    try:
        all_at_work = threading.Barrier(cores)

        def work(pixels: Tensor, valid: Tensor | None) -> int:
            all_at_work.wait(timeout=30)  # is passed only if as many batches are worked on at a time
            return torch.get_num_threads()

        assert list(Cores().map(work, batches_of(2 * cores))) == [1] * (2 * cores)
        assert torch.get_num_threads() == cores
    finally:
        torch.set_num_threads(before)


def test_threads_begun_later_have_all_cores() -> None:
    before = torch.get_num_threads()
    Cores()
    found = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert found == [before]


def test_an_error_in_a_thread_is_raised() -> None:
    def work(pixels: Tensor, valid: Tensor | None) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        list(Cores().map(work, batches_of(1)))


class FakeGpu:
    """Stands in for `torch.cuda`: `asked` lists what was done, in the order that the host asked for it."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.copied = 0

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        gpu = self

        class Stream:
            def __init__(self, device: torch.device | None = None) -> None:
                pass

            def record_event(self) -> int:
                gpu.copied += 1
                return gpu.copied

            def wait_event(self, event: int) -> None:
                gpu.asked.append(f"wait for copy {event}")

        copying = []

        @contextmanager
        def stream(copies: Stream) -> Iterator[None]:
            copying.append(copies)
            yield
            copying.pop()

        def to(tensor: Tensor, device: torch.device, *, non_blocking: bool = False) -> Tensor:
            assert copying, "copied on the stream that computes"
            assert non_blocking
            gpu.asked.append(f"copy {gpu.copied + 1}")
            return tensor.clone()

        monkeypatch.setattr(torch.cuda, "Stream", Stream)
        monkeypatch.setattr(torch.cuda, "stream", stream)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: Stream())
        monkeypatch.setattr(Tensor, "pin_memory", lambda tensor: (gpu.asked.append("pin"), tensor)[1])
        monkeypatch.setattr(Tensor, "to", to)
        monkeypatch.setattr(Tensor, "record_stream", lambda tensor, stream: gpu.asked.append("keep"))


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    fake = FakeGpu()
    fake.install(monkeypatch)
    return fake


def test_a_copy_is_asked_for_before_the_batch_ahead_is_computed(gpu: FakeGpu) -> None:
    def work(pixels: Tensor, valid: Tensor | None) -> int:
        gpu.asked.append(f"compute {int(pixels[0, 0, 0, 0]) + 1}")
        return int(pixels[0, 0, 0, 0])

    assert list(Gpu(CPU).map(work, batches_of(3, masked=False))) == [0, 1, 2]
    assert gpu.asked == [
        *("pin", "copy 1", "pin", "copy 2"),
        *("wait for copy 1", "keep", "compute 1"),  # and not for copy 2, which goes on beside it
        *("pin", "copy 3", "wait for copy 2", "keep", "compute 2"),
        *("wait for copy 3", "keep", "compute 3"),
    ]


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_batches_come_through_with_their_masks(gpu: FakeGpu, n: int) -> None:
    found = list(Gpu(CPU).map(lambda pixels, valid: (int(pixels[0, 0, 0, 0]), bool(valid)), batches_of(n)))
    assert found == [(i, i % 2 == 0) for i in range(n)]
    assert gpu.asked.count("pin") == gpu.asked.count("keep") == 2 * n  # pixels and mask


def test_the_device_decides(gpu: FakeGpu) -> None:
    assert isinstance(runner_for(CPU), Cores)
    assert isinstance(runner_for(torch.device("cuda")), Gpu)
