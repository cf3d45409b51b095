"""Jobs on three Ray nodes with token authentication, which outlive a lost node: see docs/results/reliability.md."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from ssvq.errors import ExitCode
from tests.support.cluster_jobs import ScoringJob, TrainingJob
from tests.support.cluster_s3 import ClusterS3
from tests.support.faults import run_job
from tests.support.network import NodesUnavailableError
from tests.support.nodes import Cluster, Node

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


class Bed(NamedTuple):
    """What the tests share; `logs` is where the jobs print."""

    cluster: Cluster
    s3: ClusterS3
    scoring: ScoringJob
    training: TrainingJob
    reference: str
    logs: Path


def start_cluster() -> Cluster:
    """Nodes in network namespaces, else as separate raylets."""
    try:
        return Cluster()
    except NodesUnavailableError:
        return Cluster(namespaces=False)


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    """Three nodes, the S3 server, both jobs, and the scores of an undisturbed run."""
    folder = tmp_path_factory.mktemp("nodes")
    cluster = start_cluster()
    try:
        with ClusterS3(folder / "s3", cluster.host) as s3:
            cluster.set_variables(s3.variables)
            scoring, training = ScoringJob(s3.bucket), TrainingJob(s3.bucket, folder / "train.json", steps=60)
            scoring.prepare(folder)
            training.prepare(folder)
            cluster.start()
            reference = f"{s3.bucket}/undisturbed"
            run = run_job(cluster, s3, scoring, reference, folder / "log")
            assert run.code == ExitCode.DONE, (folder / "log").read_text()[-3000:]
            yield Bed(cluster, s3, scoring, training, reference, folder)
    except NodesUnavailableError as reason:
        pytest.skip(str(reason))
    finally:
        cluster.stop()


def test_an_undisturbed_run_leaves_nothing_to_do(bed: Bed) -> None:
    assert len(bed.cluster.nodes) == 3
    assert bed.scoring.problems(bed.reference, bed.reference) == []


@pytest.mark.parametrize(
    "fault",
    [pytest.param("raylet", marks=pytest.mark.soak), pytest.param("cut", marks=pytest.mark.soak), "cut-for-good"],
)
def test_scoring_goes_on_without_a_node(bed: Bed, fault: str) -> None:
    if fault.startswith("cut") and bed.cluster.network is None:
        pytest.skip("the network of a node can only be cut where it has a namespace of its own")
    bed.cluster.restore()
    out, log = f"{bed.s3.bucket}/scores-{fault}", bed.logs / fault
    run = run_job(bed.cluster, bed.s3, bed.scoring, out, log, faults=[fault])
    assert run.hit
    if run.code != ExitCode.DONE:  # a person, or the schedule, runs it again
        run = run_job(bed.cluster, bed.s3, bed.scoring, out, log)
    assert run.code == ExitCode.DONE, log.read_text()[-3000:]
    assert bed.scoring.problems(out, bed.reference) == []


def test_training_on_three_nodes_goes_on_without_a_worker(bed: Bed) -> None:
    bed.cluster.restore()
    out, log = f"{bed.s3.bucket}/bundle-worker", bed.logs / "worker"
    run = run_job(bed.cluster, bed.s3, bed.training, out, log, faults=["worker"])
    assert run.code == ExitCode.DONE, log.read_text()[-3000:]
    assert run.hit[0].startswith("worker: ray::RayTrainWorker")
    assert bed.training.went_on_at(out, run.struck) > 1, "it went on from a checkpoint"
    assert bed.training.problems(out, out) == []


@pytest.fixture
def node_with_full_disk(bed: Bed) -> Iterator[Node]:
    """A node on which no process can start, since it cannot write its log."""
    if bed.cluster.network is None:
        pytest.skip("the disk of a node can only be filled where it has one of its own")
    bed.cluster.restore()
    node = bed.cluster.nodes[-1]
    node.hurt = True
    node.fill_disk()
    yield node
    bed.cluster.restore()


@pytest.mark.soak
@pytest.mark.parametrize("job", ["scoring", "training"])
def test_a_node_with_a_full_disk_is_left_out(bed: Bed, node_with_full_disk: Node, job: str) -> None:
    out, log = f"{bed.s3.bucket}/{job}-disk", bed.logs / f"{job}-disk"
    run = run_job(bed.cluster, bed.s3, getattr(bed, job), out, log)
    assert run.code == ExitCode.DONE, log.read_text()[-3000:]
    assert f"node {node_with_full_disk.address} is left out: no process starts there" in log.read_text()
    assert getattr(bed, job).problems(out, bed.reference if job == "scoring" else out) == []
