"""ray job submit --working-dir . -- python jobs/evaluate.py ...: `ssvq evaluate` as a job, its exit code in `driver_exit_code`."""

import sys

from ssvq.cli import run

if __name__ == "__main__":
    sys.exit(run("evaluate", sys.argv[1:]))
