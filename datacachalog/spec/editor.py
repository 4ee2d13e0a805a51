"""New catalogs, and adding a dataset to one while everything else stays as the user wrote it.

Works on text: finds the one place for a new entry and inserts lines there; comments, order,
indentation and line ends stay. Each result is read again and compared before it is returned.
Used by `dcl init` and `dcl add`.
"""

import contextlib
import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from datacachalog.errors import CatalogError, InvalidCatalogError, InvalidValueError, Problem
from datacachalog.spec import yaml as document
from datacachalog.spec.models import check_name
from datacachalog.spec.yaml import DocumentError, Fault, Place, Table
from datacachalog.uri import check_source

NEW_CATALOG = """\
# What this project reads, and where it comes from. `dcl sync` puts it into data/.
# Every key, with an example: `dcl schema`, or catalog.example.yaml in the documentation.

version: 1

# Everything as it was at the end of that day; without it, as it is now.
# as_of: 2026-03-01

# How to reach a storage. The standard AWS environment works without any of this.
# storages:
#   lake: {profile: analytics, region: eu-central-1}
#   lab: {endpoint_url: "https://minio.example.com", key: "${LAB_KEY}", secret: "${LAB_SECRET}"}

# Said once for all datasets.
# defaults: {storage: lake, max_age: 10 minutes}

datasets:
  # A single file:
  # customers: s3://bucket/customers/current.parquet
  #
  # Many files, in the folders they have there:
  # orders:
  #   description: Orders, one file a day
  #   source: s3://bucket/orders/year=2026/**/*.parquet
"""
"""What `dcl init` writes."""

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
        read = document.read(text, is_toml=is_toml)
    except DocumentError as exc:
        faults: Sequence[Fault] = [exc.fault]
    else:
        faults = read.faults
        if not faults and not isinstance(read.value, Table | None):
            faults = [Fault("a catalog is made of keys and values", Place(1, 1))]
    if faults:
        raise InvalidCatalogError([fault.as_problem(file) for fault in faults])
    return read.value if isinstance(read.value, Table) else Table()


def _check_is_free(catalog: Table, name: str, file: str) -> None:
    datasets = catalog.get("datasets")
    if datasets is not None and not isinstance(datasets, Table):
        place = catalog.values_at["datasets"]
        raise InvalidCatalogError([Problem("`datasets` must be keys and values", file, *place)])
    if datasets and name in datasets:
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
    return _as_text(after) == _as_text(expected)


def _as_text(value: object) -> str:
    # As text, a NaN in somebody's metadata equals itself, and True does not equal 1.
    return json.dumps(value, sort_keys=True, default=repr)


# --- YAML ---------------------------------------------------------------------------


def _yaml_candidates(text: str, name: str, entry: object) -> Iterator[str]:
    """Yield texts that might be right, the best first."""
    # `_read` has refused what is nested too deep for this.
    top: Any = yaml.compose(text, Loader=yaml.CSafeLoader)
    sections = {key.value: (key, value) for key, value in (top.value if top else ())}
    if "datasets" not in sections:
        if top is not None and top.flow_style:
            yield from _into_flow(text, top.end_mark, f"datasets: {{{_flow(name, entry)}}}")
        else:
            yield _append_section(text, _block(name, entry, 2))
        return
    key, section = sections["datasets"]
    is_empty = not isinstance(section, yaml.MappingNode) or not section.value
    if isinstance(section, yaml.MappingNode) and (top.flow_style or not is_empty):
        if section.flow_style:
            yield from _into_flow(text, section.end_mark, _flow(name, entry))
            return
        indent = section.value[0][0].start_mark.column
        step = _indent_step(text, indent)
        for line in _ends_of_block(text, section.end_mark.line, indent):
            yield _insert_lines(text, line, _block(name, entry, indent, step))
    else:
        yield _into_empty(text, key, section, name, entry)


def _ends_of_block(text: str, end: int, indent: int) -> Iterator[int]:
    """Yield line numbers to insert before: after the last entry and the comments that follow it.

    `end` is the line of what follows the block.
    """
    lines = text.split("\n")
    line = min(end, len(lines))
    while not lines[line - 1].strip() or lines[line - 1].lstrip().startswith("#"):
        line -= 1
    while line < len(lines) and _is_comment(lines[line], indent):
        line += 1
    yield line
    yield end  # blank lines belong to a block scalar with `|+`


def _is_comment(line: str, indent: int) -> bool:
    stripped = line.lstrip(" ")
    return stripped.startswith("#") and len(line) - len(stripped) >= indent


def _into_empty(text: str, key: Any, value: Any, name: str, entry: object) -> str:
    """Fill `datasets:` that holds nothing, `~`, `null` or `{}`."""
    lines = text.split("\n")
    start, end = value.start_mark, value.end_mark
    row, base = key.start_mark.line, key.start_mark.column
    if start.line == end.line and start.index < end.index:
        line = lines[start.line]
        rest = (line[: start.column].rstrip() + line[end.column :]).rstrip()
        lines[start.line : start.line + 1] = [rest] if rest else []
        row = start.line if rest else start.line - 1
    at = row + 1
    while at < len(lines) and _is_comment(lines[at], base + 1):
        at += 1
    indent = base + 2
    if at > row + 1:
        indent = len(lines[row + 1]) - len(lines[row + 1].lstrip())
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
    at = end.index - 1
    head, tail = text[:at], text[at:]
    body = head.rstrip()
    space = head[len(body) :]
    if body.endswith("{"):
        yield f"{body}{entry}{space}{tail}"
    yield f"{body}, {entry}{space}{tail}"
    yield f"{body} {entry}{space}{tail}"
    yield f"{head}, {entry}{tail}"
    yield f"{head}{entry}{tail}"


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
