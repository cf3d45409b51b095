"""`ssvq ...`, and the entry point of `jobs/*.py`: parses settings, runs a command, prints errors as one line,
returns the exit code.
"""

import argparse
import importlib
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from pydantic import ValidationError
from pydantic_settings import CliApp, CliSettingsSource, SettingsError

import ssvq
from ssvq import config, logs
from ssvq.errors import ExitCode, InputError, failure_of, one_line
from ssvq.io import storage


class CommandSpec(NamedTuple):
    """A command: its settings, and the location of its function.

    The function is imported when it runs, so that `ssvq query` does not wait for torch and Ray.
    """

    settings: type[config.Command]
    function: str


COMMANDS = {
    "check": CommandSpec(config.CheckConfig, "ssvq.check.job:check"),
    "train": CommandSpec(config.TrainConfig, "ssvq.training.job:train"),
    "score": CommandSpec(config.ScoreConfig, "ssvq.scoring.job:score"),
    "nightly": CommandSpec(config.NightlyConfig, "ssvq.nightly.job:nightly"),
    "evaluate": CommandSpec(config.EvaluateConfig, "ssvq.evaluation.job:evaluate"),
    "query": CommandSpec(config.QueryConfig, "ssvq.results.query:query"),
    "publish": CommandSpec(config.PublishConfig, "ssvq.results.publish:publish"),
    "findings": CommandSpec(config.FindingsConfig, "ssvq.results.findings.job:findings"),
    "overlay": CommandSpec(config.OverlayConfig, "ssvq.results.pictures.overlay:overlay"),
    "export": CommandSpec(config.ExportConfig, "ssvq.results.export.job:export"),
    "export-model": CommandSpec(config.ExportModelConfig, "ssvq.handover.job:export_model"),
    "report": CommandSpec(config.ReportConfig, "ssvq.results.report.job:report"),
    "label": CommandSpec(config.LabelConfig, "ssvq.results.label:label"),
    "experiment": CommandSpec(config.ExperimentConfig, "ssvq.experiments.job:experiment"),
    "demo": CommandSpec(config.DemoConfig, "ssvq.demo.job:demo"),
}

# Seconds until a process gives up a node that does not answer. With Ray's own 2 to 5 minutes, a task that was about to
# go to a node that leaves the network is not placed elsewhere before (Ray's issue 63405). Processes that do not share
# the value refuse to be asked more often than each minute.
KEEPALIVE = {"RAY_grpc_client_keepalive_time_ms": "60000", "RAY_grpc_client_keepalive_timeout_ms": "20000"}


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script: `ssvq COMMAND ...`."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview())
        return ExitCode.DONE if arguments else ExitCode.WRONG_INPUT
    if arguments[0] == "--version":
        print(f"ssvq {ssvq.__version__}")
        return ExitCode.DONE
    if arguments[0] not in COMMANDS:
        logs.set_up(_log_format(arguments))
        logs.error(f"ssvq: {arguments[0]!r} is not a command; commands: {', '.join(COMMANDS)}")
        return ExitCode.WRONG_INPUT
    return run(arguments[0], arguments[1:])


def run(command: str, arguments: Sequence[str]) -> int:
    """Run one command. Returns its exit code; every error ends as one line on standard error."""
    spec = COMMANDS[command]
    debug = "--debug" in arguments
    logs.set_up(_log_format(arguments))
    for name, value in KEEPALIVE.items():
        os.environ.setdefault(name, value)  # before Ray is loaded, which reads them then
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # `ray job stop` and Kubernetes interrupt so
    try:
        _warn_of_unknown_variables()
        settings = parse(command, spec.settings, arguments)
        debug = settings.debug
        logs.set_up(settings.log_format)
        storage.set_timeout(settings.storage_timeout)
        module, name = spec.function.split(":")
        function: Callable[[config.Command], ExitCode] = getattr(importlib.import_module(module), name)
        return function(settings)
    except KeyboardInterrupt:
        logs.error(f"ssvq {command}: interrupted; run the same command again to go on")
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # The reader of our output is gone (`ssvq query ... | head`): nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.DONE
    except OSError as error:
        message = f"{error}; finished work is kept: fix the cause and run the same command again"
        return _fail(command, message, ExitCode.INTERNAL_ERROR, debug)
    except InputError as error:
        return _fail(command, str(error), ExitCode.WRONG_INPUT, debug)
    except Exception as error:  # noqa: BLE001 - the last place: a bug ends as one line and exit code 1
        message = f"{failure_of(error)} (this is a bug or a fault of the machine; run again with --debug to see more)"
        return _fail(command, message, ExitCode.INTERNAL_ERROR, debug)


def _fail(command: str, message: str, code: ExitCode, debug: bool) -> ExitCode:
    # Messages contain names of files, which may hold anything.
    logs.error(f"ssvq {command}: error: {one_line(message)}", trace=debug)
    return code


def _log_format(arguments: Sequence[str]) -> logs.LogFormat:
    """The log format before the settings are known, or if they are wrong: by flag or environment."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--log-format", nargs="?", default=os.environ.get(f"{config.ENV_PREFIX}LOG_FORMAT"))
    return "json" if parser.parse_known_args(arguments)[0].log_format == "json" else "text"


def parse(command: str, settings: type[config.Command], arguments: Sequence[str]) -> config.Command:
    """Settings from flags, environment and file. Raises InputError naming the wrong setting."""
    program = f"ssvq {command}"
    try:
        return CliApp.run(settings, cli_args=list(arguments), cli_settings_source=_source(settings, program))
    except SettingsError as error:
        raise InputError(f"{_first_line(error)}; `{program} --help` lists the settings") from None
    except ValidationError as error:
        first = error.errors()[0]
        path = [str(part) for part in first["loc"]]
        if first["type"] == "missing":
            raise InputError(f"{_flag(settings, path)} is missing; `{program} --help` lists the settings") from None
        if first["type"] == "extra_forbidden":
            raise InputError(f"unknown setting {'.'.join(path)}; `{program} --help` lists the settings") from None
        reason = first["msg"].removeprefix("Value error, ")
        given = f" (given: {first['input']!r})" if path else ""
        raise InputError(f"{_flag(settings, path)}: {reason}{given}" if path else reason) from None


def _source(settings: type[config.Command], program: str) -> CliSettingsSource[config.Command]:
    # Required settings may come from a file or the environment, so argparse must not insist on flags.
    return CliSettingsSource(
        settings, cli_prog_name=program, cli_enforce_required=False, formatter_class=_HelpFormatter
    )


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """One line per setting: the flag in one column, its meaning in the other, without a list of all flags on top."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=42, width=max(100, shutil.get_terminal_size().columns - 2))

    def add_arguments(self, actions: Iterable[argparse.Action]) -> None:
        """Required settings first; defaults of none are not shown."""
        for action in actions:
            action.help = (action.help or "").replace(" (default: None)", "")
        super().add_arguments(sorted(actions, key=lambda action: "(required)" not in (action.help or "")))

    def add_usage(self, usage, actions, groups, prefix=None) -> None:  # type: ignore[no-untyped-def]
        """Usage with the positional arguments only."""
        names = " ".join(action.metavar or action.dest.upper() for action in actions if not action.option_strings)
        super().add_usage(f"%(prog)s {names + ' ' if names else ''}[settings]", actions, groups, prefix)


def _overview() -> str:
    lines = [f"  {name:<14}{spec.settings.__doc__}" for name, spec in COMMANDS.items()]
    return "\n".join(
        [
            "usage: ssvq COMMAND [settings]",
            "",
            "Semi-supervised VQ-VAE anomaly detection for industrial inspection.",
            "",
            "commands:",
            *lines,
            "",
            "`ssvq COMMAND --help` lists the settings of a command. You can also put them in a YAML file (--config)",
            "or the environment (SSVQ_STEPS=500). Flags win over the environment, and the environment over the file.",
        ]
    )


def _flag(settings: type[config.Command], path: list[str]) -> str:
    """A setting as it is written on the command line."""
    name = ".".join(path).replace("_", "-")
    field = settings.model_fields.get(path[0])
    positional = field is not None and any(type(m).__name__ == "_CliPositionalArg" for m in field.metadata)
    return path[0].upper() if positional else f"--{name}"


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].removeprefix("error parsing CLI: ")


def _warn_of_unknown_variables() -> None:
    known = {f"{config.ENV_PREFIX}{name}".upper() for spec in COMMANDS.values() for name in spec.settings.model_fields}
    known.add(f"{config.ENV_PREFIX}TEST_DATA")
    for variable in os.environ:
        if variable.startswith(config.ENV_PREFIX) and variable.split("__")[0] not in known:
            logs.warning(f"warning: the environment variable {variable} is not a setting of ssvq")
