"""Nodes on which no process can work are left out; that scoring and training then do without is in test_nodes.py."""

import errno
from collections.abc import Iterator

import pytest
import ray

from ssvq.runtime import placement

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("ray_cluster")]
GONE = "0" * 56  # the id of a node that is not in the cluster


@pytest.fixture(autouse=True)
def _no_node_is_left_out() -> Iterator[None]:
    yield
    placement.forget_nodes()


def test_a_sound_node_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    assert not placement.leave_out_broken_nodes()
    assert placement.anywhere() == {}
    assert capsys.readouterr().err == ""


def test_a_node_that_cannot_write_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="no node of this cluster can work: no file can be written there"):
        placement.leave_out_broken_nodes(full)
    assert "is left out: no file can be written there ([Errno 28] No space left on device)" in capsys.readouterr().err


def test_a_node_on_which_processes_end_is_named() -> None:
    def end() -> None:
        import os

        os._exit(1)

    with pytest.raises(OSError, match="no process starts there"):
        placement.leave_out_broken_nodes(end)


def test_tasks_are_kept_off_what_is_left_out() -> None:
    here = ray.get_runtime_context().get_node_id()
    where = ray.remote(lambda: ray.get_runtime_context().get_node_id())
    placement.leave_out([GONE])
    assert ray.get(where.options(**placement.anywhere()).remote(), timeout=60) == here
    placement.leave_out([here])
    task = where.options(**placement.anywhere()).remote()
    assert ray.wait([task], timeout=3)[0] == []
    ray.cancel(task)


def test_readers_are_kept_off_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [{"Alive": True, "NodeID": name, "Labels": {placement.ROLE: "reader"}} for name in ("good", "bad")]
    monkeypatch.setattr(placement.ray, "nodes", lambda: nodes)
    placement.leave_out(["bad"])
    options = placement.readers()
    assert options["label_selector"] == {placement.ROLE: "reader", placement.NODE_ID: "!in(bad)"}
    assert options["fallback_strategy"] == [{"label_selector": {placement.NODE_ID: "!in(bad)"}}]
    placement.leave_out(["good"])
    assert placement.ROLE not in placement.readers()["label_selector"], "no reader is left"


@pytest.mark.parametrize(("cpus", "scorers"), [([6], 1), ([0, 4, 4], 2), ([1, 1, 1], 2), ([1], 1)])
def test_scorers_on_cpus_leave_some_for_readers(monkeypatch: pytest.MonkeyPatch, cpus: list[int], scorers: int) -> None:
    resources = [{"CPU": float(number)} if number else {} for number in cpus]
    nodes = [{"Alive": True, "NodeID": str(i), "Resources": of} for i, of in enumerate(resources)]
    monkeypatch.setattr(placement.ray, "nodes", lambda: nodes)
    assert placement.cpu_scorers() == scorers
