"""`ssvq nightly` as a Ray job; its exit code is the job's `driver_exit_code`.

ray job submit --working-dir . -- python jobs/nightly.py ...
"""

import sys

from ssvq.cli import run

if __name__ == "__main__":
    sys.exit(run("nightly", sys.argv[1:]))
