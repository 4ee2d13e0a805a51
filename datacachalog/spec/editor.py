"""Adding a dataset to a catalog file while everything else stays as the user wrote it.

Works on text: finds the one place for a new entry and inserts lines there; comments, order,
indentation and line ends stay. Each result is read again and compared before it is returned.
Used by `dcl add`.
"""

import contextlib
import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from datacachalog.errors import CatalogError, InvalidCatalogError, InvalidValueError, Problem
from datacachalog.spec import yaml as document
from datacachalog.spec.models import check_name
from datacachalog.spec.yaml import DocumentError, Fault, Table
from datacachalog.uri import check_source

Options = Mapping[str, str | bool]
"""Further keys of the new dataset, such as `storage` or `as_of`; without any, the short form."""

_BARE_TOML_KEY = re.compile(r"[A-Za-z0-9_-]+")
_TOML_HEADER = re.compile(r"[ \t]*\[")
_DATASETS_HEADER = re.compile(r"[ \t]*\[[ \t]*datasets[ \t]*\][ \t]*(#.*)?$")


def add_to_file(path: Path, name: str, source: str, options: Options | None = None) -> None:
    """Add a dataset to the catalog file at `path`, replacing the file atomically.

    Raises what `add_dataset` raises; then the file is untouched.
    """
    with open(path, "rb") as file:
        data = file.read()
    document.decode(data)
    bom = b"\xef\xbb\xbf" if data.startswith(b"\xef\xbb\xbf") else b""
    text = data[len(bom) :].decode()
    edited = add_dataset(text, name, source, options, file=path.name)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.write_bytes(bom + edited.encode())
        os.chmod(temporary, os.stat(path).st_mode & 0o7777)
        os.replace(temporary, os.path.realpath(path))
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def add_dataset(
    text: str, name: str, source: str, options: Options | None = None, *, file: str = "catalog.yaml"
) -> str:
    r"""Return the catalog's text with one more dataset, after the others.

    `file` names the file in errors, and its suffix tells TOML from YAML. Raises
    `InvalidCatalogError` where the text cannot be read, and `InvalidValueError` where the name
    is taken or the name or source is not acceptable.

    >>> print(add_dataset("datasets:\n  a: s3://lake/a.csv  # first\n", "b", "s3://lake/b/*.csv"))
    datasets:
      a: s3://lake/a.csv  # first
      b: s3://lake/b/*.csv
    <BLANKLINE>
    """
    check_name(name)
    if name.startswith("x-"):
        raise InvalidValueError(
            f"{name!r} cannot be a dataset's name: keys that begin with `x-` are free",
            hint=f"choose another, such as `{name[2:] or 'data'}`",
        )
    check_source(source)
    is_toml = file.endswith(".toml")
    newline = "\r\n" if "\r\n" in text else "\n"
    lines = text.replace("\r\n", "\n")
    before = _read(lines, is_toml, file)
    _check_is_free(before, name, file)
    entry = source if not options else {"source": source, **options}
    candidates = _toml_candidates if is_toml else _yaml_candidates
    for edited in candidates(lines, name, entry):
        if _is_just_that(before, edited, is_toml, name, entry):
            return edited.replace("\n", newline)
    by_hand = f"[datasets.{_toml_key(name)}]" if is_toml else f"{name}: {_yaml_scalar(source)}"
    raise CatalogError(
        f"a dataset cannot be added to {file} without rewriting what is there",
        hint=f"add it by hand: `{by_hand}`",
    )


def _read(text: str, is_toml: bool, file: str) -> Table:
    try:
        read = document.read_toml(text) if is_toml else document.read_yaml(text)
    except DocumentError as exc:
        raise InvalidCatalogError([_problem(file, exc.fault)]) from None
    if read.faults:
        raise InvalidCatalogError([_problem(file, fault) for fault in read.faults])
    if read.value is None:
        return Table()
    if not isinstance(read.value, Table):
        raise InvalidCatalogError([Problem("a catalog is made of keys and values", file, 1, 1)])
    return read.value


def _problem(file: str, fault: Fault) -> Problem:
    line, column = fault.place or (None, None)
    return Problem(fault.message, file, line, column, fault.hint)


def _check_is_free(catalog: Table, name: str, file: str) -> None:
    datasets = catalog.get("datasets")
    if datasets is not None and not isinstance(datasets, Table):
        place = catalog.values_at["datasets"]
        raise InvalidCatalogError([Problem("`datasets` must be keys and values", file, *place)])
    if isinstance(datasets, Table) and name in datasets:
        raise InvalidValueError(
            f"there is a dataset {name!r} already, in {file}:{datasets.keys_at[name].line}",
            hint="choose another name, or edit it there",
        )


def _is_just_that(before: Table, edited: str, is_toml: bool, name: str, entry: object) -> bool:
    """Tell whether the edited text means the old catalog and the new entry, no more, no less."""
    try:
        after = _read(edited, is_toml, "")
    except InvalidCatalogError:
        return False
    old, new = before.get("datasets"), after.get("datasets")
    if not isinstance(new, Table) or new.get(name) not in (entry, {"source": entry}):
        return False
    expected = {**before, "datasets": {**(old if isinstance(old, Table) else {}), name: new[name]}}
    # By repr: a NaN in somebody's metadata equals nothing.
    return repr(_sorted(after)) == repr(_sorted(expected))


def _sorted(value: object) -> object:
    if isinstance(value, dict):
        return [(key, _sorted(value[key])) for key in sorted(value)]
    if isinstance(value, list):
        return [_sorted(item) for item in value]
    return value


# --- YAML ---------------------------------------------------------------------------


@dataclass(slots=True)
class _Section:
    """Where `datasets:` stands in the text; lines and columns count from 0."""

    key: Any
    start: Any
    end: Any = None
    first_key: Any = None
    last_line: int = 0


def _yaml_candidates(text: str, name: str, entry: object) -> Iterator[str]:
    """Yield texts that might be right, the best first."""
    top, section = _find_section(text)
    if section is None:
        if top is not None and top.flow_style:
            yield from _into_flow(
                text, _end_of_flow(text, top), f"datasets: {{{_flow(name, entry)}}}"
            )
        else:
            yield _append_section(text, _block(name, entry, 2))
        return
    start = section.start
    if isinstance(start, yaml.MappingStartEvent) and start.flow_style:
        if section.first_key is not None or (top is not None and top.flow_style):
            yield from _into_flow(text, section.end, _flow(name, entry))
            return
        yield _into_empty(text, section, start.start_mark, section.end.end_mark, name, entry)
    elif isinstance(start, yaml.MappingStartEvent):
        indent = section.first_key.start_mark.column
        step = _indent_step(text, indent)
        for line in _ends_of_block(text, section.last_line, indent):
            yield _insert_lines(text, line, _block(name, entry, indent, step))
    else:
        yield _into_empty(text, section, start.start_mark, start.end_mark, name, entry)


def _find_section(text: str) -> tuple[Any, _Section | None]:
    """Return the event that begins the top mapping, and the section under `datasets`."""
    top: Any = None
    section: _Section | None = None
    key: Any = None
    event: Any
    depth, is_key = 0, True
    for event in _events(text):
        begins = isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent)
        ends = isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent)
        is_value = isinstance(event, yaml.ScalarEvent | yaml.AliasEvent)
        depth -= ends
        if section is not None and section.end is None:
            _note(section, event, depth, ends)
        elif depth == 0 and begins:
            top = event
        elif depth == 1 and (begins or is_value):
            if is_key:
                key = event
            elif isinstance(key, yaml.ScalarEvent) and key.value == "datasets":
                section = _Section(key, event, end=None if begins else event)
        if depth == 1 and (ends or is_value):
            is_key = not is_key
        depth += begins
    return top, section


def _note(section: _Section, event: Any, depth: int, ends: bool) -> None:
    if ends and depth == 1:
        section.end = event
        return
    if section.first_key is None:
        section.first_key = event
    is_flow_end = ends and event.end_mark.index > event.start_mark.index
    if getattr(event, "style", None) in ("|", ">"):
        # Its end is the start of what follows.
        section.last_line = max(section.last_line, event.end_mark.line - 1)
    elif is_flow_end or isinstance(event, yaml.ScalarEvent | yaml.AliasEvent):
        section.last_line = max(section.last_line, event.end_mark.line)


def _ends_of_block(text: str, last_line: int, indent: int) -> Iterator[int]:
    """Yield line numbers to insert before: after the last entry and the comments that follow it."""
    lines = text.split("\n")
    # Blank lines at the end of a block scalar belong to what follows, but not those of `|+`.
    filled = min(last_line, len(lines) - 1)
    while not lines[filled].strip():
        filled -= 1
    for end in (filled, last_line):
        line = end + 1
        while line < len(lines) and _is_comment(lines[line], indent):
            line += 1
        yield line


def _is_comment(line: str, indent: int) -> bool:
    stripped = line.lstrip(" ")
    return stripped.startswith("#") and len(line) - len(stripped) >= indent


def _into_empty(
    text: str, section: _Section, start: Any, end: Any, name: str, entry: object
) -> str:
    """Fill `datasets:` that holds nothing, `~`, `null` or `{}`."""
    lines = text.split("\n")
    row = section.key.start_mark.line
    if start.line == end.line and start.index < end.index:
        line = lines[start.line]
        rest = (line[: start.column].rstrip() + line[end.column :]).rstrip()
        lines[start.line : start.line + 1] = [rest] if rest else []
        row = start.line if rest else start.line - 1
    base = section.key.start_mark.column
    at = row + 1
    while at < len(lines) and _is_comment(lines[at], base + 1):
        at += 1
    following = lines[row + 1] if row + 1 < len(lines) else ""
    has_comments = at > row + 1
    indent = len(following) - len(following.lstrip()) if has_comments else base + 2
    return _insert_lines("\n".join(lines), at, _block(name, entry, indent))


def _append_section(text: str, block: list[str]) -> str:
    body = text.rstrip("\n")
    # An explicit end of the document stays the end.
    ending = "\n...\n" if body.endswith("\n...") else "\n"
    body = body.removesuffix("\n...")
    return "\n".join([body, "", "datasets:", *block] if body else ["datasets:", *block]) + ending


def _insert_lines(text: str, line: int, block: list[str]) -> str:
    lines = text.split("\n")
    if line >= len(lines):
        return "\n".join([*lines, *block, ""])
    return "\n".join([*lines[:line], *block, *lines[line:]])


def _into_flow(text: str, end: Any, entry: str) -> Iterator[str]:
    """Yield the text with an entry more before the `}` that ends at `end`."""
    lines = text.split("\n")
    mark = end.end_mark
    line, column = mark.line, mark.column - 1
    head = "\n".join([*lines[:line], lines[line][:column]])
    tail = "\n".join([lines[line][column:], *lines[line + 1 :]])
    body = head.rstrip()
    space = head[len(body) :]
    if body.endswith("{"):
        yield f"{body}{entry}{space}{tail}"
    yield f"{body}, {entry}{space}{tail}"
    yield f"{body} {entry}{space}{tail}"
    yield f"{head}, {entry}{tail}"
    yield f"{head}{entry}{tail}"


def _end_of_flow(text: str, top: Any) -> Any:
    last = top
    for event in _events(text):
        if isinstance(event, yaml.MappingEndEvent):
            last = event
    return last


def _events(text: str) -> Iterator[Any]:
    loader = yaml.CSafeLoader(text)
    try:
        while not isinstance(event := loader.get_event(), yaml.StreamEndEvent):
            yield event
    finally:
        loader.dispose()


def _indent_step(text: str, indent: int) -> int:
    """Return how far the file indents below a dataset's name."""
    for line in text.split("\n"):
        stripped = line.lstrip(" ")
        depth = len(line) - len(stripped)
        if depth > indent and stripped and not stripped.startswith(("#", "-")):
            return depth - indent
    return indent or 2


def _block(name: str, entry: object, indent: int, step: int = 2) -> list[str]:
    margin = " " * indent
    if not isinstance(entry, dict):
        return [f"{margin}{name}: {_yaml_scalar(entry)}"]
    keys = [f"{margin}{' ' * step}{key}: {_yaml_scalar(value)}" for key, value in entry.items()]
    return [f"{margin}{name}:", *keys]


def _flow(name: str, entry: object) -> str:
    if not isinstance(entry, dict):
        return f"{name}: {_yaml_scalar(entry)}"
    keys = ", ".join(f"{key}: {_yaml_scalar(value)}" for key, value in entry.items())
    return f"{name}: {{{keys}}}"


def _yaml_scalar(value: object) -> str:
    """Return the plain spelling where it means the same anywhere, else a quoted one."""
    if not isinstance(value, str):
        return json.dumps(value)
    if document.read_scalar(value) == value and not re.search(r"[\[\]{},\n]", value):
        with contextlib.suppress(DocumentError):
            if document.read_yaml(f"key: {value}").value == {"key": value}:
                return value
    return json.dumps(value, ensure_ascii=False)


# --- TOML ---------------------------------------------------------------------------


def _toml_candidates(text: str, name: str, entry: object) -> Iterator[str]:
    """Yield texts that might be right: an entry in `[datasets]`, else a table at the end."""
    key = _toml_key(name)
    lines = text.split("\n")
    header = next((i for i, line in enumerate(lines) if _DATASETS_HEADER.match(line)), None)
    if header is not None:
        at = header + 1
        while at < len(lines) and not _TOML_HEADER.match(lines[at]):
            at += 1
        while not lines[at - 1].strip() or lines[at - 1].lstrip().startswith("#"):
            at -= 1
        yield _insert_lines(text, at, [f"{key} = {_toml_value(entry)}"])
    keys = entry if isinstance(entry, dict) else {"source": entry}
    table = [f"[datasets.{key}]", *(f"{k} = {_toml_value(v)}" for k, v in keys.items())]
    body = text.rstrip("\n")
    yield "\n".join([body, "", *table] if body else table) + "\n"


def _toml_key(name: str) -> str:
    return name if _BARE_TOML_KEY.fullmatch(name) else json.dumps(name)


def _toml_value(value: object) -> str:
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {_toml_value(item)}' for key, item in value.items())} }}"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
