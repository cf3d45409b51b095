"""`ssvq score` as a Ray job; its exit code is the job's `driver_exit_code`.

ray job submit --working-dir . -- python jobs/score.py ...
"""

import sys

from ssvq.cli import run

if __name__ == "__main__":
    sys.exit(run("score", sys.argv[1:]))
