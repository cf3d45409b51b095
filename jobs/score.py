"""ray job submit --working-dir . -- python jobs/score.py ...: `ssvq score` as a job, its exit code in `driver_exit_code`."""

import sys

from ssvq.cli import run

if __name__ == "__main__":
    sys.exit(run("score", sys.argv[1:]))
