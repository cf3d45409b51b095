"""Pages of the site that are made when it is built (a hook of MkDocs; see mkdocs.yml).

Files of the repository that are pages too (README, CONTRIBUTING, ...) are taken over, and the settings of every command
are listed from the code. Links to files that are not on the site become plain names.
"""

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

TAKEN_OVER = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changes.md",
    "cluster/README.md": "guide/cluster.md",
}
"""Pages by the files of the repository that they are made of."""

SETTINGS = "reference/settings.md"
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made."""
    for source, uri in TAKEN_OVER.items():
        text = relink((ROOT / source).read_text(), source, uri)
        files.append(File.generated(config, uri, content=text))
    files.append(File.generated(config, SETTINGS, content=settings_page()))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Point links of a page out of docs/ to pages that were taken over."""
    uri = page.file.src_uri
    return markdown if uri in (*TAKEN_OVER.values(), SETTINGS) else relink(markdown, f"docs/{uri}", uri)


def on_post_page(output: str, page: Page, **_: Any) -> str:
    """Take the one script that the theme would fetch from the network from the site itself."""
    here = os.path.relpath("assets/iframe-worker.js", Path(page.file.dest_uri).parent.as_posix() or ".")
    return output.replace("https://unpkg.com/iframe-worker/shim", here)


def on_post_template(output: str, template_name: str, **_: Any) -> str:
    """The same of the page for addresses that are not there."""
    return output.replace("https://unpkg.com/iframe-worker/shim", "/assets/iframe-worker.js")


def relink(text: str, source: str, uri: str) -> str:
    """The text of a file of the repository with links that hold on the site: of the page `uri`."""

    def changed(link: re.Match[str]) -> str:
        image, words, target = link.groups()
        path, _, anchor = target.partition("#")
        if "://" in target or not path:
            return link[0]
        file = os.path.normpath((Path(source).parent / path).as_posix())
        on_site = TAKEN_OVER.get(file) or (file.removeprefix("docs/") if file.startswith("docs/") else None)
        if on_site is None:
            return words if words.strip("`").rstrip("/") == file else f"{words} (`{file}`)"
        relative = os.path.relpath(on_site, Path(uri).parent.as_posix() or ".")
        return f"{image}[{words}]({relative}{'#' if anchor else ''}{anchor})"

    return LINK.sub(changed, text)


def settings_page() -> str:
    """Every command with its settings, from the classes that define them."""
    from ssvq.cli import COMMANDS

    lines = [
        "# Settings",
        "",
        "Every setting of every command, made from the code. Each can be given on the command line, in the environment "
        "or in a YAML file: see [Start](../guide/start.md#settings).",
        "",
        "Settings that every command has:",
        "",
        *table(rows(shared_by_all())),
    ]
    for name, spec in COMMANDS.items():
        own = {field: info for field, info in spec.settings.model_fields.items() if field not in shared_by_all()}
        lines += ["", f"## ssvq {name}", "", spec.settings.__doc__ or "", "", *table(rows(own))]
    return "\n".join(lines) + "\n"


def shared_by_all() -> dict[str, FieldInfo]:
    """The fields that all commands have."""
    from ssvq.settings import Command

    return Command.model_fields


def rows(fields: dict[str, FieldInfo], group: str = "") -> Iterator[tuple[str, str, str]]:
    """Flag, default and meaning of each setting; groups follow their fields."""
    for name, info in fields.items():
        if isinstance(info.default, BaseModel):
            yield from rows(type(info.default).model_fields, f"{group}{name.replace('_', '-')}.")
            continue
        flag = str(info.validation_alias or info.alias or name).replace("_", "-")
        positional = any(type(one).__name__ == "_CliPositionalArg" for one in info.metadata)
        yield (
            f"`{name.upper()}`" if positional else f"`--{group}{flag}`",
            default_of(info),
            " ".join((info.description or "").split()).replace("|", "\\|"),
        )


def default_of(info: FieldInfo) -> str:
    """The default as it is written on a command line."""
    if info.is_required():
        return "required"
    if info.default in (None, PydanticUndefined, ""):
        return ""
    if isinstance(info.default, bool):
        return "on" if info.default else "off"
    if isinstance(info.default, tuple):
        return f"`{','.join(map(str, info.default))}`"
    return f"`{os.path.relpath(info.default) if Path(str(info.default)).is_absolute() else info.default}`"


def table(entries: Iterator[tuple[str, str, str]]) -> list[str]:
    """A Markdown table of settings."""
    return ["| setting | default | meaning |", "|---|---|---|", *(f"| {' | '.join(entry)} |" for entry in entries)]
