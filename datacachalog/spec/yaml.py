"""YAML and TOML text as plain values that remember where each one stands.

Owns what a file may contain before anyone asks what it means: YAML 1.2 scalars, no merge
keys, no tags, no duplicate keys, and limits on size, depth and aliases. Used by the loader
and by the editing of catalogs; knows nothing of catalogs.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, NamedTuple

import yaml

from datacachalog.errors import Problem

MAX_BYTES = 4_000_000
MAX_DEPTH = 64
MAX_VALUES = 1_000_000
"""Values in a document with all aliases written out."""


class Place(NamedTuple):
    """A line and a column, counted from 1."""

    line: int
    column: int


class Fault(NamedTuple):
    """One thing wrong with a document."""

    message: str
    place: Place | None
    hint: str | None = None

    def as_problem(self, file: str) -> Problem:
        """Return it as a problem of the catalog in `file`."""
        line, column = self.place or (None, None)
        return Problem(self.message, file, line, column, self.hint)


class DocumentError(Exception):
    """The text cannot be read at all; `fault` says why and where."""

    def __init__(self, message: str, place: Place | None, hint: str | None = None) -> None:
        super().__init__(message)
        self.fault = Fault(message, place, hint)


class Table(dict[str, object]):
    """A mapping that knows where its keys and values stand."""

    __slots__ = ("keys_at", "values_at", "weight")

    def __init__(self) -> None:
        super().__init__()
        self.keys_at: dict[str, Place] = {}
        self.values_at: dict[str, Place] = {}
        self.weight = 1


class Listing(list[object]):
    """A list that knows where its items stand."""

    __slots__ = ("items_at", "weight")

    def __init__(self) -> None:
        super().__init__()
        self.items_at: list[Place] = []
        self.weight = 1


@dataclass(frozen=True, slots=True)
class Document:
    """A document's top value, and all faults that did not keep it from being read."""

    value: object
    faults: tuple[Fault, ...] = ()


def decode(data: bytes) -> str:
    """Return the text of a file: UTF-8, without a byte order mark, lines ended as on Unix."""
    if len(data) > MAX_BYTES:
        raise DocumentError(
            f"the file is larger than {MAX_BYTES // 1_000_000} MB",
            None,
            "split it, and name the parts under `include:`",
        )
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DocumentError("the file is UTF-16, not UTF-8", None, "save it as UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        before = data[: exc.start].decode("utf-8", "replace")
        raise DocumentError(
            f"the byte 0x{data[exc.start]:02x} is not UTF-8",
            _place_in(before, len(before)),
            "save the file as UTF-8",
        ) from None
    return text.replace("\r\n", "\n")


def read(text: str, *, is_toml: bool) -> Document:
    """Return the value of a YAML or TOML document; raises `DocumentError`."""
    return read_toml(text) if is_toml else read_yaml(text)


def _place_in(text: str, position: int) -> Place:
    line_start = text.rfind("\n", 0, position) + 1
    return Place(text.count("\n", 0, position) + 1, position - line_start + 1)


# --- YAML ---------------------------------------------------------------------------

_UNREADABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufeff\ufffe\uffff]")
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,99})")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?")
_NUMBER_STARTS = frozenset("0123456789+-.")
_WORDS: dict[str, object] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}


def read_yaml(text: str) -> Document:
    """Return the value of a YAML document; scalars follow the core schema of YAML 1.2.

    Dates stay text, and so do numbers with leading zeros. Raises `DocumentError` for what
    cannot be read on from; lesser faults are collected.
    """
    if found := _UNREADABLE.search(text):
        raise DocumentError(
            f"the character U+{ord(found.group()):04X} is not allowed in YAML",
            _place_in(text, found.start()),
            'remove it, or write it as an escape in double quotes, such as "\\x07"',
        )
    loader = yaml.CSafeLoader(text)
    try:
        return _Composer().document(loader.get_event)
    except yaml.MarkedYAMLError as exc:
        raise _syntax_error(exc, text) from None
    finally:
        loader.dispose()


def read_scalar(text: str) -> object:
    """Return what an unquoted YAML scalar means.

    >>> [read_scalar(text) for text in ("no", "0755", "1:30", "2024-12-10", "12", "true", "~")]
    ['no', '0755', '1:30', '2024-12-10', 12, True, None]
    """
    if text in _WORDS:
        return _WORDS[text]
    if text[0] in _NUMBER_STARTS:
        if _INT.fullmatch(text):
            return int(text)
        if _FLOAT.fullmatch(text):
            return float(text)
    return text


class _Composer:
    """Builds values from the parser's events, without recursion.

    PyYAML's own composer recurses in C: 100,000 `[` would end the process.
    """

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._anchors: dict[str, object] = {}
        self._top = Listing()
        self._open: list[Table | Listing] = [self._top]
        self._keys: list[str | None] = []
        """For each open table: the key that waits for its value."""

    def document(self, get_event: Callable[[], yaml.Event | None]) -> Document:
        handlers: dict[type, Callable[[Any], None]] = {
            yaml.ScalarEvent: self._scalar,
            yaml.MappingStartEvent: self._begin_table,
            yaml.SequenceStartEvent: self._begin,
            yaml.MappingEndEvent: self._end,
            yaml.SequenceEndEvent: self._end,
            yaml.AliasEvent: self._alias,
            yaml.DocumentStartEvent: self._begin_document,
        }
        while type(event := get_event()) is not yaml.StreamEndEvent:
            if (handler := handlers.get(type(event))) is not None:
                handler(event)
        return Document(self._top[0] if self._top else None, tuple(self._faults))

    def _begin_document(self, event: yaml.DocumentStartEvent) -> None:
        if self._top:
            raise DocumentError("a second document begins here", _start(event), "remove this `---`")

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        text: str = event.value
        container = self._open[-1]
        if type(container) is Table and self._keys[-1] is None:
            self._key(container, text, event)
            return
        if event.tag is not None:
            self._refuse_tag(event)
        value = read_scalar(text) if event.implicit[0] else text
        if event.anchor is not None:
            self._anchors[event.anchor] = value
        self._put(container, value, _start(event))

    def _key(self, table: Table, key: str, event: yaml.ScalarEvent) -> None:
        place = _start(event)
        if key == "<<" and event.implicit[0]:
            hint = "say it once under `defaults:`, or write it out"
            self._faults.append(Fault("merge keys (`<<`) are not supported", place, hint))
        elif key in table:
            message = f"the key {key!r} is given twice, first in line {table.keys_at[key].line}"
            self._faults.append(Fault(message, place, "remove one of them"))
        else:
            table.keys_at[key] = place
        self._keys[-1] = key

    def _put(self, container: Table | Listing, value: object, place: Place) -> None:
        container.weight += 1
        if type(container) is Table:
            key = self._keys[-1]
            if key is None:
                raise DocumentError(
                    "a key must be plain text", place, "quote what begins with `{` or `[`"
                )
            self._keys[-1] = None
            # Of two equal keys the first is kept; the second is a fault already.
            if key not in container and key in container.keys_at:
                container[key] = value
                container.values_at[key] = place
        elif type(container) is Listing:
            container.append(value)
            container.items_at.append(place)

    def _begin_table(self, event: yaml.MappingStartEvent) -> None:
        self._begin(event, Table())
        self._keys.append(None)

    def _begin(self, event: yaml.CollectionStartEvent, new: Table | Listing | None = None) -> None:
        new = Listing() if new is None else new
        place = _start(event)
        if len(self._open) > MAX_DEPTH:
            raise _too_deep(place)
        if event.tag is not None:
            self._refuse_tag(event)
        self._put(self._open[-1], new, place)
        self._open.append(new)
        if event.anchor is not None:
            self._anchors[event.anchor] = new

    def _end(self, event: yaml.Event) -> None:
        ended = self._open.pop()
        if type(ended) is Table:
            self._keys.pop()
        self._weigh(ended.weight, event)

    def _alias(self, event: yaml.AliasEvent) -> None:
        place = _start(event)
        if event.anchor not in self._anchors:
            raise DocumentError(
                f"`*{event.anchor}` refers to nothing above it",
                place,
                f'quote it if it is text: `"*{event.anchor}"`',
            )
        value = self._anchors[event.anchor]
        if any(container is value for container in self._open):
            raise DocumentError(f"`*{event.anchor}` holds itself", place, "write it out")
        self._put(self._open[-1], value, place)
        if isinstance(value, Table | Listing):
            self._weigh(value.weight, event)

    def _weigh(self, weight: int, event: yaml.Event) -> None:
        container = self._open[-1]
        container.weight += weight
        if container.weight > MAX_VALUES:
            raise DocumentError(
                f"aliases make this more than {MAX_VALUES:,} values",
                _start(event),
                "write out what is needed, and remove the aliases",
            )

    def _refuse_tag(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent) -> None:
        tag = (event.tag or "!").replace("tag:yaml.org,2002:", "!!")
        hint = "remove the tag; quote a value to make it text"
        self._faults.append(Fault(f"tags such as `{tag}` are not supported", _start(event), hint))


def _too_deep(place: Place | None) -> DocumentError:
    return DocumentError(f"values are nested more than {MAX_DEPTH} deep", place, "write it flatter")


_new = tuple.__new__


def _start(event: Any) -> Place:
    mark = event.start_mark  # only a made-up event has none
    # A third of the time that `Place(…)` takes, for each of many thousand values.
    return _new(Place, (mark.line + 1, mark.column + 1))


# Longest first: the first problem text that begins like one of these decides.
_SYNTAX = (
    ("mapping values are not allowed", "this line holds a `: ` where no key can be",
     "check the indentation, or put the value in quotes"),
    ("could not find expected ':'", "a key without its `:`", "write `key: value`"),
    ("did not find expected ',' or ']'", "a `[` is not closed", "add the missing `]` or `,`"),
    ("did not find expected ',' or '}'", "a `{` is not closed", "add the missing `}` or `,`"),
    ("did not find expected '-' indicator", "the list ends where its indentation changes",
     "indent all items alike"),
    ("did not find expected key", "the indentation fits no line above",
     "indent keys of one level alike, and quote values with special characters"),
    ("found unexpected end of stream", "a quoted text is not closed", "add the missing quote"),
    ("found unknown escape character", "an unknown `\\` escape in double quotes",
     "use single quotes, or write `\\\\`"),
    ("found unexpected document indicator", "a quoted text is not closed",
     "add the missing quote"),
    ("did not find expected node content", "a value is missing", "write a value, or `null`"),
    ("did not find expected <document start>", "the text goes on where the document ended",
     "indent all keys alike"),
    ("block sequence entries are not allowed", "a `- ` where no list can be",
     "begin the list on a line of its own"),
    ("found duplicate anchor", "an anchor is given twice", "give it another name"),
)  # fmt: skip


def _syntax_error(exc: yaml.MarkedYAMLError, text: str) -> DocumentError:
    mark = exc.problem_mark or exc.context_mark
    problem = exc.problem or "this is not YAML"
    place = Place(mark.line + 1, mark.column + 1) if mark else None
    lines = text.split("\n")
    line = lines[place.line - 1] if place and place.line <= len(lines) else ""
    if "cannot start any token" in problem and place:
        char = line[place.column - 1 : place.column]
        if char == "\t":
            return DocumentError("a tab stands where only spaces can", place, "indent with spaces")
        return DocumentError(f"no value can begin with `{char}`", place, "put the value in quotes")
    for begin, message, hint in _SYNTAX:
        if problem.startswith(begin):
            if re.search(r"[^\"']\$\{", line):
                hint = 'between `{` and `}`, put references in quotes: `"${VAR}"`'
            if "not closed" in message and exc.context_mark:
                place = Place(exc.context_mark.line + 1, exc.context_mark.column + 1)
            return DocumentError(message, place, hint)
    return DocumentError(f"this is not YAML: {problem}", place)


# --- TOML ---------------------------------------------------------------------------

_TOML_PLACE = re.compile(r"\(at (?:line (\d+), column (\d+)|end of document)\)$")
_TOML_PART = r"""(?:[A-Za-z0-9_-]+|"[^"\\\n]*"|'[^'\n]*')"""
_TOML_KEY = rf"{_TOML_PART}(?:[ \t]*\.[ \t]*{_TOML_PART})*"
_TOML_LINE = re.compile(
    rf"^[ \t]*(?:\[\[?[ \t]*(?P<table>{_TOML_KEY})[ \t]*\]|(?P<key>{_TOML_KEY})[ \t]*=[ \t]*)",
    re.MULTILINE,
)


def read_toml(text: str) -> Document:
    """Return the value of a TOML document; places are those of keys at the start of a line.

    A value inside an inline table or a list has the place of the line's key.
    """
    import tomllib  # a catalog in YAML need not wait for it

    try:
        value = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        message, place = str(exc), None
        if found := _TOML_PLACE.search(message):
            message = message[: found.start()].strip()
            at_end = _place_in(text, len(text.rstrip()))
            place = Place(int(found[1]), int(found[2])) if found[1] else at_end
        message = f"this is not TOML: {message[:1].lower()}{message[1:]}"
        raise DocumentError(message, place) from None
    except RecursionError:
        raise _too_deep(None) from None
    return Document(_with_places(value, (), _toml_places(text), Place(1, 1), 0))


def _toml_places(text: str) -> dict[tuple[str, ...], tuple[Place, Place]]:
    """Return where keys and their values stand, as far as a look at each line can tell."""
    places: dict[tuple[str, ...], tuple[Place, Place]] = {}
    table: tuple[str, ...] = ()
    line, counted = 1, 0
    for found in _TOML_LINE.finditer(text):
        kind = "table" if found["table"] else "key"
        start, end = found.start(kind), found.end()
        line, counted = line + text.count("\n", counted, start), start
        line_start = text.rfind("\n", 0, start) + 1
        key_at = Place(line, start - line_start + 1)
        value_at = key_at if kind == "table" else Place(line, end - line_start + 1)
        parts = tuple(part.strip("\"'") for part in re.findall(_TOML_PART, found[kind]))
        if kind == "table":
            table = parts
        full = parts if kind == "table" else table + parts
        for length in range(1, len(full) + 1):
            places.setdefault(full[:length], (key_at, value_at))
    return places


def _with_places(
    value: object,
    path: tuple[str, ...],
    places: dict[tuple[str, ...], tuple[Place, Place]],
    fallback: Place,
    depth: int,
) -> object:
    if depth > MAX_DEPTH:
        raise _too_deep(fallback)
    if isinstance(value, dict):
        table = Table()
        for key, item in value.items():
            key_at, value_at = places.get((*path, key), (fallback, fallback))
            table.keys_at[key], table.values_at[key] = key_at, value_at
            table[key] = _with_places(item, (*path, key), places, value_at, depth + 1)
        return table
    if isinstance(value, list):
        listing = Listing()
        for item in value:
            listing.append(_with_places(item, path, places, fallback, depth + 1))
            listing.items_at.append(fallback)
        return listing
    # As text, a moment means the end of its unit, exactly as it does in YAML.
    if isinstance(value, datetime):
        is_whole = value.microsecond and not value.microsecond % 1000
        text = value.isoformat(timespec="milliseconds" if is_whole else "auto")
        return text.replace("+00:00", "Z")
    return value.isoformat() if isinstance(value, date) else value
