"""Pages of the site that the sources write: experiment file, commands, Python functions.

mkdocs calls `on_files` (`hooks` in mkdocs.yml), so that no such page can be out of date.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import click  # after the path is set
import typer.main
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

import cli
import nas.api
from nas.command_line.output import EXIT_CODES
from nas.experiment.schema import Experiment


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    for name, text in pages().items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def pages() -> dict[str, str]:
    """Name -> Markdown."""
    found = {"experiment": experiment(), "commands": commands(), "api": api()}
    return {name: "\n".join(lines) + "\n" for name, lines in found.items()}


def experiment() -> Iterator[str]:
    """Every field of an experiment file, from the JSON schema that `simqnas schema` prints."""
    schema = Experiment.model_json_schema()
    yield from ("# Experiment file", "")
    yield "Written from the schema that `simqnas schema` prints. `name`, `model` and `data` are"
    yield from ("needed; of everything else `simqnas check` prints what it becomes, and why.", "")
    yield from _fields(schema)
    for name, part in sorted(schema["$defs"].items()):
        if "properties" in part:
            yield from ("", f"## {name}", "", part.get("description", "").split("\n\n")[0], "")
            yield from _fields(part)


def _fields(schema: dict[str, Any]) -> Iterator[str]:
    yield from ("| field | takes | default | |", "|---|---|---|---|")
    for name, field in schema["properties"].items():
        default = "required" if name in schema.get("required", ()) else _default(field)
        text = _cell(field.get("description", ""))
        yield f"| `{name}` | {_cell(_takes(field))} | {default} | {text} |"


def _default(field: dict[str, Any]) -> str:
    if "default" not in field:
        return "see there"
    value = field["default"]
    return "null" if value is None else f"`{_cell(str(value))}`"


def _takes(field: dict[str, Any]) -> str:
    """What a field may hold, in words; what has a section of its own is linked."""
    if "$ref" in field:
        name = field["$ref"].split("/")[-1]
        return f"[{name}](#{name.lower()})"
    for key in ("anyOf", "oneOf"):
        if key in field:
            parts = dict.fromkeys(_takes(part) for part in field[key])
            return " or ".join(part for part in parts if part)
    if "enum" in field or "const" in field:
        return ", ".join(f"`{value}`" for value in field.get("enum", [field.get("const")]))
    kind = str(field.get("type", "anything"))
    if kind == "array":
        return f"list of {_takes(field.get('items', {})) or 'values'}"
    limits = [
        f"{sign} {field[key]}"
        for key, sign in (
            ("minimum", "≥"), ("exclusiveMinimum", ">"),
            ("maximum", "≤"), ("exclusiveMaximum", "<"),
        )
        if key in field
    ]  # fmt: skip
    return " ".join([kind, ", ".join(limits)]).strip()


def _cell(text: str) -> str:
    """Text that may stand in a cell of a table."""
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())


def commands() -> Iterator[str]:
    """Every command with its arguments and options, from what `--help` is made of."""
    group = typer.main.get_command(cli.app)
    context = click.Context(group, info_name="simqnas")  # type: ignore[arg-type] # typer's own
    yield from ("# Commands", "", str(group.help), "")
    yield from ("## Exit codes", "", "| code | |", "|---|---|")
    yield from (f"| {code} | {what} |" for code, what in EXIT_CODES.items())
    yield ""
    for name in group.list_commands(context):  # type: ignore[attr-defined] # it is a group
        command = group.get_command(context, name)  # type: ignore[attr-defined]
        yield from (f"## simqnas {name}", "", str(command.help), "")
        yield from ("| argument or option | |", "|---|---|")
        for parameter in command.params:
            shown = ", ".join(parameter.opts) if parameter.param_type_name == "option" else (
                parameter.metavar or parameter.name.upper()
            )  # fmt: skip
            yield f"| `{shown}` | {_cell(parameter.help or '')}{_also(parameter)} |"
        yield ""


def _also(parameter: Any) -> str:
    default = parameter.default
    shown = f" Default: `{default}`." if isinstance(default, str | int) and default else ""
    return "" if isinstance(default, bool) else shown


def api() -> Iterator[str]:
    """The functions and classes of `nas.api`, from their signatures and docstrings."""
    yield from ("# Python functions", "", _paragraphs(str(nas.api.__doc__)), "")
    for name in ("search", "check", "load_run"):
        yield from _documented(name, getattr(nas.api, name))
    yield from _documented("Run", nas.api.Run)
    for name, member in inspect.getmembers(nas.api.Run):
        if not name.startswith("_") and member.__doc__ and not isinstance(member, str):
            kind = "" if isinstance(member, property) else str(inspect.signature(member))
            yield from (f"### Run.{name}", "")
            if kind:
                yield from ("```python", f"{name}{kind}", "```", "")
            yield from (_paragraphs(str(member.__doc__)), "")


def _documented(name: str, thing: Any) -> Iterator[str]:
    yield from (f"## {name}", "", "```python", f"{name}{inspect.signature(thing)}", "```", "")
    yield from (_paragraphs(str(thing.__doc__)), "")


def _paragraphs(docstring: str) -> str:
    return inspect.cleandoc(docstring)
