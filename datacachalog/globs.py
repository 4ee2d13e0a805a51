"""Patterns over keys and paths: where their fixed part ends, and what they match.

`*`, `?`, `[abc]`, `[a-z]` and `[!abc]` stay within one segment; `**` as a whole segment stands
for any number of folders, also none; a trailing `/` means `/**`. A segment `*` is any name, but
not an empty one. One character in brackets is that character: `[*]`, `[?]`, `[[]`. A bracket
that does not close within its segment is a bracket.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

_TOKEN = re.compile(
    r"(?P<deep>(?:(?<=/)|\A)(?:\*\*/)*\*\*(?P<slash>/|\Z))"
    r"|\[(?P<negated>!?+)(?P<members>[^/][^/\]]*)\]"
    r"|(?P<name>(?:(?<=/)|\A)\*+(?=/|\Z))"
    r"|(?P<star>\*+)"
    r"|(?P<any>\?)"
    r"|(?P<literal>[^*?\[]+|\[)",
    re.DOTALL,
)
_META = re.compile(r"[*?\[]")
_RANGE = re.compile(r"(.)(?:-(.))?", re.DOTALL)


def is_glob(text: str) -> bool:
    """Tell whether `text` is a pattern rather than the spelling of one name.

    >>> is_glob("orders/2026.parquet"), is_glob("orders/*.parquet"), is_glob("orders/")
    (False, True, True)
    >>> is_glob("what[?].csv")
    False
    """
    if text.endswith("/"):
        return True
    return _META.search(text) is not None and any(not is_text for is_text, _ in _tokens(text))


def unescape(text: str) -> str:
    """Return the one name that `text` spells, where it is no glob.

    >>> unescape("what[?].csv")
    'what?.csv'
    """
    if _META.search(text) is None:
        return text
    return "".join(part for _, part in _tokens(text))


def escape(name: str) -> str:
    """Return the spelling of exactly `name`; a trailing slash stays, and still means `/**`.

    >>> escape("what?[1].csv")
    'what[?][[]1].csv'
    """
    return _META.sub(lambda found: f"[{found[0]}]", name)


@dataclass(frozen=True, slots=True)
class Glob:
    """A compiled pattern over `/`-separated keys.

    `fixed_prefix` is the folder that every match lies in, with its trailing slash (or
    empty): relative paths begin below it. `listing_prefix` is the longest literal start
    and may end within a segment: what a storage lists. `is_flat` tells that no match has a
    `/` beyond `fixed_prefix`.

    >>> Glob("lake/y=2026/part-*.csv").fixed_prefix
    'lake/y=2026/'
    >>> Glob("lake/y=2026/part-*.csv").listing_prefix
    'lake/y=2026/part-'
    """

    pattern: str
    fixed_prefix: str = field(init=False, compare=False)
    listing_prefix: str = field(init=False, compare=False)
    is_flat: bool = field(init=False, compare=False)
    matches: Callable[[str], object] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        tokens = list(_tokens(_whole(self.pattern)))
        count = next((i for i, (is_text, _) in enumerate(tokens) if not is_text), len(tokens))
        literal = "".join(part for _, part in tokens[:count])
        folder = literal[: literal.rfind("/") + 1]
        rest = tokens[count:]
        is_deep = any("/" in part if is_text else part in _DEEP for is_text, part in rest)
        object.__setattr__(self, "listing_prefix", literal)
        object.__setattr__(self, "fixed_prefix", folder)
        object.__setattr__(self, "is_flat", not is_deep)
        object.__setattr__(self, "matches", re.compile(_regex(tokens), re.DOTALL).fullmatch)


_FOLDERS = "(?:[^/]*/)*"
_EVERYTHING = ".+"
_DEEP = (_FOLDERS, _EVERYTHING)


def _whole(pattern: str) -> str:
    return pattern + "**" if pattern.endswith("/") else pattern


def _regex(tokens: Iterable[tuple[bool, str]]) -> str:
    return "".join(re.escape(part) if is_text else part for is_text, part in tokens)


def _tokens(pattern: str) -> Iterator[tuple[bool, str]]:
    """Split `pattern` into literal text (True) and regular expressions (False), in order."""
    for found in _TOKEN.finditer(pattern):
        if found["deep"] is not None:
            yield False, _FOLDERS if found["slash"] else _EVERYTHING
        elif found["members"] is not None:
            members = found["members"]
            if len(members) == 1 and not found["negated"]:
                yield True, members
            else:
                yield False, _class(members, is_negated=bool(found["negated"]))
        elif found["name"] is not None:
            yield False, "[^/]+"
        elif found["star"] is not None:
            yield False, "[^/]*"
        elif found["any"] is not None:
            yield False, "[^/]"
        else:
            yield True, found["literal"]


def _class(members: str, *, is_negated: bool) -> str:
    """Return the regular expression of one bracket; a range that runs backwards is empty."""
    ranges = (found.groups() for found in _RANGE.finditer(members))
    parts = [
        f"\\U{ord(first):08x}-\\U{ord(last or first):08x}"
        for first, last in ranges
        if first <= (last or first)
    ]
    if not parts:
        return "[^/]" if is_negated else "(?!)"
    return f"(?!/)[{'^' if is_negated else ''}{''.join(parts)}]"


def excluder(patterns: Iterable[str]) -> Callable[[str], bool]:
    """Return a function that tells whether a relative path matches one of `patterns`.

    A pattern without `/` is matched against the base name at any depth, one with `/`
    against the whole relative path.

    >>> is_excluded = excluder(["*_tmp.csv", "old/"])
    >>> [path for path in ("a.csv", "b/c_tmp.csv", "old/x.csv") if not is_excluded(path)]
    ['a.csv']
    """
    parts = []
    for pattern in patterns:
        regex = _regex(_tokens(_whole(pattern)))
        parts.append(regex if "/" in pattern else _FOLDERS + regex)
    if not parts:
        return lambda relpath: False  # noqa: ARG005 - the shape of the other one
    fullmatch = re.compile("|".join(f"(?:{part})" for part in parts), re.DOTALL).fullmatch
    return lambda relpath: fullmatch(relpath) is not None
