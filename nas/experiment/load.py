"""Reading an experiment file: YAML, overrides, and one message per mistake."""

from __future__ import annotations

import difflib
import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from nas.experiment.schema import Experiment

EXPECTED = "input should be "
"""What pydantic's messages on a value of another type begin with."""
_KEY = re.compile(r"(?P<indent>(?:  )*)(?P<key>\w+):(?: |$)")
"""A line of our own YAML that begins a field."""


class ExperimentError(ValueError):
    """Everything that is wrong with an experiment file, one line per mistake."""

    def __init__(self, problems: Sequence[str]):
        self.problems = tuple(problems)
        super().__init__("\n".join(problems))


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice and aliases (a file of this size needs none)."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call] # untyped in PyYAML's stubs
            raise yaml.constructor.ConstructorError(
                None, None, "aliases (*name) are not allowed; write the value out", event.start_mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} must be text", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def load_experiment(path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read, override (`search.evaluations=80`), validate and resolve an experiment file.

    Paths in it are taken relative to the file. Raises ExperimentError with every mistake at once.
    """
    return experiment_of(_parse(path), path.parent, str(path), overrides)


def experiment_of(
    data: dict[str, Any], folder: Path, where: str, overrides: Sequence[str] = ()
) -> Experiment:
    """The same of sections that are read already. where: what messages begin with."""
    for override in overrides:
        override_field(data, override)
    _resolve_paths(data, folder)
    try:
        return Experiment.model_validate(data)
    except ValidationError as error:
        told = [_explain(detail, data) for detail in _of_the_kind_given(error, data)]
        raise ExperimentError([f"{where}: {problem}" for problem in _as_one(told)]) from None


def dump_experiment(experiment: Experiment, reasons: Mapping[str, str] | None = None) -> str:
    """The resolved experiment as YAML, defaults included.

    reasons: dotted keys -> what their values follow from, written behind them.
    """
    data = experiment.model_dump(mode="json")
    text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=10_000)
    return "".join(_with_reasons(text, reasons or {}))


def _with_reasons(text: str, reasons: Mapping[str, str]) -> Iterator[str]:
    """Lines of block YAML, `# from ...` behind the keys that have a reason."""
    keys: list[str] = []
    for line in text.splitlines(keepends=True):
        if match := _KEY.match(line):
            keys = [*keys[: len(match["indent"]) // 2], match["key"]]
            if reason := reasons.get(".".join(keys)):
                line = f"{line.rstrip()}  # from {reason}\n"
        yield line


def _parse(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ExperimentError([f"{path}: cannot be read ({error.strerror})"]) from None
    except UnicodeDecodeError:
        raise ExperimentError([f"{path}: is not UTF-8 text; give a YAML file"]) from None
    return _yaml_mapping(text, str(path))


def _yaml_mapping(text: str, where: str) -> dict[str, Any]:
    try:
        data = yaml.load(text, Loader=_StrictLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ExperimentError([f"{where}: is not valid YAML: {reason}"]) from None
    if not isinstance(data, dict):
        given = type(data).__name__
        raise ExperimentError([f"{where}: must hold keys and values, got {given}; see examples/"])
    return data


def override_field(data: dict[str, Any], override: str) -> None:
    """Set one field of the sections of a file, written as `search.evaluations=80`.

    Raises ExperimentError for what is not so written.
    """
    dotted, equals, text = override.partition("=")
    keys = dotted.strip().split(".")
    if not equals or not all(keys):
        raise ExperimentError(
            [f"--set {override}: must read key.key=value, for example search.evaluations=80"]
        )
    value = _yaml_mapping(f"value: {text}", f"--set {override}")["value"]
    section: Any = data
    for key in keys[:-1]:
        section = section.setdefault(key, {})
        if not isinstance(section, dict):
            raise ExperimentError([f"--set {override}: {key} is a value, not a section"])
    section[keys[-1]] = value


def _resolve_paths(data: dict[str, Any], folder: Path) -> None:
    """Make a checkpoint or data set that lies beside the file absolute; other names are hub ids."""
    for section, key in (("model", "checkpoint"), ("data", "name")):
        values = data.get(section)
        if not isinstance(values, dict):
            continue
        value = values.get(key)
        if isinstance(value, str) and value and "\0" not in value:
            beside = folder / Path(value).expanduser()
            if beside.exists():
                values[key] = str(beside.resolve())
    export = data.get("export")
    if isinstance(export, dict) and isinstance(names := export.get("verify"), list):
        export["verify"] = [_beside(name, folder) for name in names]


def _beside(name: object, folder: Path) -> object:
    """NAME@PLACE with the place made absolute."""
    runtime, at, place = name.partition("@") if isinstance(name, str) else ("", "", "")
    if not place or "\0" in place:
        return name
    return f"{runtime}{at}{folder.resolve() / Path(place).expanduser()}"


def _as_one(told: Sequence[tuple[str, str, str]]) -> list[str]:
    """A line for each mistake; the kinds of value that a place takes are named in one."""
    lines: dict[tuple[str, str, str], str] = {}
    for where, rule, given in told:
        kind = rule.removeprefix(EXPECTED)
        key = (where, "" if kind != rule else rule, given)
        lines[key] = f"{lines[key]} or {kind}" if key in lines and kind != rule else rule
    return [f"{where}: {rule}{given}" for (where, _, given), rule in lines.items()]


def _explain(detail: Any, data: Any) -> tuple[str, str, str]:
    """One mistake: its key, the rule with what is allowed, and the value given."""
    location = _keys(detail, data)
    where = ".".join(p if p.isidentifier() or p.isdigit() else repr(p) for p in location)
    if detail["type"] == "extra_forbidden":
        key, where = location[-1], ".".join(location)[:80]
        allowed = _allowed_keys(location[:-1])
        close = difflib.get_close_matches(str(key), allowed, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        return where, f"unknown key; {hint}allowed are {', '.join(allowed)}", ""
    if detail["type"] == "missing":
        return where, "missing; add it (`simqnas schema` describes it)", ""
    if detail["type"] == "string_pattern_mismatch" and not str(detail.get("input")).strip():
        return where, "must not be empty", f" (given: {detail.get('input')!r})"
    message = detail["msg"].removeprefix("Value error, ").replace("valid tuple", "valid list")
    given = detail.get("input")
    hidden = isinstance(given, dict | BaseModel) or where == "storage"  # it may hold a password
    shown = "" if hidden else f" (given: {_shorten(given)})"
    return where or "experiment", message[0].lower() + message[1:], shown


def _of_the_kind_given(error: ValidationError, data: Any) -> list[Any]:
    """Mistakes without those that follow from others.

    A list is too short where entries of it are mistakes; of a place that takes several kinds of
    value, the others than the kind given are not what was meant.
    """
    details = [(_keys(d, data), d) for d in error.errors(include_url=False)]
    inside = {tuple(keys[:-1]) for keys, _ in details if keys}
    of_its_kind = [tuple(keys) for keys, detail in details if not _is_kind(detail)]
    meant = {keys[:n] for keys in of_its_kind for n in range(len(keys) + 1)}
    return [
        detail
        for keys, detail in details
        if not (detail["type"] == "too_short" and tuple(keys) in inside)
        and not (_is_kind(detail) and tuple(keys) in meant | inside)
    ]


def _is_kind(detail: Any) -> bool:
    """Whether the value is of another kind (text, number, list) than this branch takes."""
    return str(detail["type"]).endswith("_type")


def _keys(detail: Any, data: Any) -> list[str]:
    """The steps of pydantic's location that are keys and indices, not names of union branches."""
    found, value = [], data
    for part in detail["loc"]:
        inside = isinstance(value, list) and isinstance(part, int) and part < len(value)
        if inside or (isinstance(value, dict) and part in value):
            value = value[part]
        elif detail["type"] != "missing" or part != detail["loc"][-1]:
            continue
        found.append(str(part))
    return found


def _allowed_keys(location: Sequence[Any]) -> list[str]:
    model: Any = Experiment
    for part in location:
        annotation = model.model_fields[part].annotation
        models = [a for a in (annotation, *getattr(annotation, "__args__", ())) if _is_model(a)]
        model = models[0]
    return list(model.model_fields)


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _shorten(value: object, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."
