"""The severity of a finding: the first rule whose bounds it reaches, all of them, gives it.

A file of rules is a YAML list, from the most severe on. A rule has a name and any bounds:

    - {severity: severe, area_m2: 1.0}
    - {severity: severe, image_share: 0.1}
    - {severity: moderate, times_threshold: 1.5}
    - {severity: minor}
"""

from collections.abc import Sequence
from pathlib import Path

import yaml
from pydantic import Field, TypeAdapter, ValidationError

from ssvq.errors import InputError, reason_of
from ssvq.scores.findings import Finding
from ssvq.settings import Section

OTHER = "minor"  # of a finding that matches no rule


class SeverityRule(Section):
    """A severity and the least values that a finding needs for it."""

    severity: str = Field(min_length=1)

    area_m2: float | None = None
    """Area on the object; a finding without a known area in square metres does not reach it."""

    area_pixels: float | None = None
    """Area in pixels of the image."""

    image_share: float | None = None
    """Share of the image."""

    times_threshold: float | None = None
    """Largest cell distance divided by the threshold."""

    def holds(self, finding: Finding) -> bool:
        """Whether a finding reaches every bound."""
        bounds = self.model_dump(exclude={"severity"}, exclude_none=True)
        values = [(getattr(finding, name), bound) for name, bound in bounds.items()]
        return all(value is not None and value >= bound for value, bound in values)


DEFAULT = [
    SeverityRule(severity="severe", image_share=0.1),
    SeverityRule(severity="severe", area_m2=1.0),
    SeverityRule(severity="moderate", image_share=0.01),
    SeverityRule(severity="moderate", area_m2=0.1),
    SeverityRule(severity=OTHER),
]


def read_rules(path: Path | None) -> list[SeverityRule]:
    """The rules of a file, or the default ones. Raises InputError for a file without rules."""
    if path is None:
        return DEFAULT
    try:
        rules = TypeAdapter(list[SeverityRule]).validate_python(yaml.safe_load(path.read_text()))
    except OSError as error:
        raise InputError(f"--severity {path} cannot be read: {reason_of(error)}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"--severity {path} is no YAML: {reason_of(error)}") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(
            f"--severity {path}: {f'{place}: ' if place else ''}{first['msg']}; give a list of rules, such as "
            "{severity: severe, area_m2: 1.0}"
        ) from None
    if not rules:
        raise InputError(f"--severity {path} holds no rule: give a list such as [{{severity: severe, area_m2: 1.0}}]")
    return rules


def severity_of(finding: Finding, rules: Sequence[SeverityRule]) -> str:
    """The severity of the first rule that holds."""
    return next((rule.severity for rule in rules if rule.holds(finding)), OTHER)


def order_of(rules: list[SeverityRule]) -> list[str]:
    """The severities, worst first."""
    return list(dict.fromkeys([*(rule.severity for rule in rules), OTHER]))
