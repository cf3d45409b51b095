"""ray job submit --working-dir . -- python jobs/train.py ...: `ssvq train` as a job, its exit code in `driver_exit_code`."""

import sys

from ssvq.cli import run

if __name__ == "__main__":
    sys.exit(run("train", sys.argv[1:]))
