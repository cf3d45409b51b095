"""Constraints that pin each direct dependency to its lower bound in pyproject.toml: `python .ci/lowest.py > FILE`."""

import re
import tomllib
from pathlib import Path

REQUIREMENT = re.compile(r"^(?P<name>[\w.-]+)(\[[\w,-]+\])?>=(?P<lowest>[\d.]+)")

project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
for requirement in project["dependencies"]:
    if found := REQUIREMENT.match(requirement):
        print(f"{found['name']}=={found['lowest']}")
