"""What the settings of all commands share: their sources, and how they are saved.

A setting takes its value from, in rising precedence: its default, the YAML file in `--config`, the environment
(`SSVQ_STEPS`, nested `SSVQ_OPTIMISER__LEARNING_RATE`), the command line (`--steps`, `--optimiser.learning-rate`).

The docstring under a field is its line in `--help`. A command saves its resolved settings beside its output.
"""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import to_jsonable_python
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)

from ssvq.errors import InputError, reason_of
from ssvq.io import storage
from ssvq.logs import LogFormat
from ssvq.redaction import refuse_credentials

ENV_PREFIX = "SSVQ_"

IN_SUBMITTED_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # Ray sets it for the command of `ray job submit`


def _refuse_scratch(location: str) -> str:
    """Raises ValueError for a relative output in a submitted job."""
    if IN_SUBMITTED_JOB in os.environ and not storage.is_full(location):
        raise ValueError(
            f"{location} is relative, and in a submitted job would lie in the job's scratch folder, which Ray deletes: "
            "give a full path or an s3:// address"
        )
    return location


Location = Annotated[str, AfterValidator(refuse_credentials), AfterValidator(storage.absolute)]
Output = Annotated[
    str, AfterValidator(refuse_credentials), AfterValidator(_refuse_scratch), AfterValidator(storage.absolute)
]
Device = Literal["auto", "cuda", "cpu"]
Precision = Literal["auto", "bf16", "fp16", "fp32"]


HOW_IT_RUNS = "how it runs"
"""Marks a setting about where or how a job runs, which does not change its output."""


class Section(BaseModel):
    """A group of settings. Unknown ones are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Command(BaseSettings):
    """The settings that every command has."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        nested_model_default_partial_update=True,
        cli_kebab_case=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
        cli_implicit_flags="dual",
        cli_exit_on_error=False,
        protected_namespaces=(),
    )

    config: Path | None = None
    """YAML file with settings of this command."""

    storage_timeout: Annotated[float, HOW_IT_RUNS] = Field(storage.DEFAULT_TIMEOUT, gt=0)
    """Seconds for which a request to S3 is retried while it gets no answer."""

    log_format: LogFormat = "text"
    """Format of the log on standard error: text, or json (one object for each line)."""

    debug: bool = False
    """Show tracebacks and Ray's own log."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The order of the sources: flags (pydantic-settings puts them first), environment, YAML file."""
        return init_settings, env_settings, ConfigFile(settings_cls)

    def saved(self) -> dict[str, Any]:
        """The resolved settings as JSON values, to be saved beside an output. No setting is a secret."""
        return self.model_dump(mode="json", exclude={"config", "debug", "log_format"})

    @classmethod
    def identity(cls, saved: dict[str, Any]) -> dict[str, Any]:
        """The saved settings that determine the output of a job: without those marked HOW_IT_RUNS, and without those
        that equal today's default.

        So an output from before a setting existed counts as made with its default.
        """
        fields = cls.model_fields.items()
        defaults = to_jsonable_python({name: field.default for name, field in fields if not field.is_required()})
        how_it_runs = {name for name, field in fields if HOW_IT_RUNS in field.metadata}
        return {name: value for name, value in _changed(saved, defaults).items() if name not in how_it_runs}


def _changed(saved: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """The saved settings that differ from the defaults, group by group."""
    changed = {}
    for name, value in saved.items():
        default = defaults.get(name)
        if isinstance(value, dict) and isinstance(default, dict):
            value, default = _changed(value, default), {}
        if value != default:
            changed[name] = value
    return changed


class _TextForDates(yaml.SafeLoader):
    """YAML in which dates stay text: a survey named 2026-11-22 has a name, not a date."""


_TextForDates.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class ConfigFile(YamlConfigSettingsSource):
    """The YAML file that a stronger source (flag or environment) gives as `config`."""

    def __init__(self, settings_cls: type[BaseSettings]) -> None:
        super().__init__(settings_cls, yaml_file=None)

    def __call__(self) -> dict[str, Any]:
        path = self.current_state.get("config")
        if path is None:
            return {}
        try:
            values = yaml.load(Path(path).read_text(), _TextForDates)
        except OSError as error:
            raise InputError(f"--config {path} cannot be read: {reason_of(error)}") from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise InputError(f"--config {path} is not YAML: {reason_of(error)}") from None
        if not isinstance(values or {}, dict):
            raise InputError(f"--config {path} must hold `setting: value` lines")
        return values or {}
