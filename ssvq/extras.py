"""Packages that only some users need: the extras of pyproject.toml."""

from importlib.util import find_spec

from ssvq.errors import InputError


def require(extra: str, *modules: str, purpose: str) -> None:
    """Raises InputError, naming the pip extra, if a module is not installed. Imports nothing. `purpose`: the setting
    or command that needs it.
    """
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise InputError(f"{purpose} needs {' and '.join(missing)}: pip install 'ssvq[{extra}]'")
