"""Ask PyPI's advisories about the pinned versions: `make audit`.

An advisory that is published tomorrow must not turn a change of today red, so that nothing that is found here fails
the build: it is printed, with the version that mends it. So is what could not be asked.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

SECONDS = 30
CONSTRAINTS = Path(__file__).resolve().parent.parent / "constraints.txt"


def main() -> None:
    """Print what is known of the pinned versions."""
    for line in report(CONSTRAINTS, str(Path(sys.executable).with_name("pip-audit"))):
        print(f"audit: {line}")


def report(requirements: Path, program: str) -> list[str]:
    """A line for each advisory, and one in all."""
    # Every version is pinned, so that nothing is to be resolved or installed.
    options = ["--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off", "--timeout", "10"]
    try:
        run = subprocess.run(
            [program, "-r", str(requirements), *options], capture_output=True, text=True, timeout=SECONDS, check=False
        )
        found: list[dict[str, Any]] = json.loads(run.stdout)["dependencies"]
    except FileNotFoundError:
        return ["not made: pip-audit is not installed"]
    except subprocess.TimeoutExpired:
        return [f"not made: no answer within {SECONDS} s"]
    except (json.JSONDecodeError, KeyError):
        return [f"not made: {(run.stderr.strip().splitlines() or ['pip-audit said nothing'])[-1][:200]}"]
    asked = [package for package in found if "skip_reason" not in package]
    if not asked:  # an index without advisories answers, too; "nothing found" would be a lie
        return [f"not made: the index has no advisories of any of the {len(found)} packages"]
    lines = [
        f"{package['name']} {package['version']}: {advisory['id']}, mended in {versions(advisory)}"
        for package in asked
        for advisory in package["vulns"]
    ]
    return [*lines, f"{len(lines)} advisories for {len(asked)} of {len(found)} packages"]


def versions(advisory: dict[str, Any]) -> str:
    """The versions without the fault."""
    return ", ".join(advisory["fix_versions"]) or "no version yet"


if __name__ == "__main__":
    main()
