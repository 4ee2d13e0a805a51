"""Patterns over keys and paths: where their fixed part ends, and what they match.

`*`, `?`, `[abc]`, `[a-z]` and `[!abc]` stay within one segment; `**` as a whole segment
stands for any number of folders, also none; a trailing `/` means `/**`. A metacharacter
is meant literally inside brackets: `[*]`, `[?]`, `[[]`. Used by the storages (what to
list, what to keep) and by `resolve` (what to exclude).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

_META = re.compile(r"[*?[]")
_CLASS = re.compile(r"\[(!?)(\]?[^\]]*)\]", re.DOTALL)


def is_glob(text: str) -> bool:
    """Tell whether `text` is a pattern rather than one literal name.

    >>> is_glob("orders/2026.parquet"), is_glob("orders/*.parquet"), is_glob("orders/")
    (False, True, True)
    """
    return text.endswith("/") or _META.search(text) is not None


@dataclass(frozen=True, slots=True)
class Glob:
    """A compiled pattern over `/`-separated keys.

    `fixed_prefix` is the folder that every match lies in, with its trailing slash (or
    empty): relative paths begin below it. `listing_prefix` is the longest literal start
    and may end within a segment: what a storage lists. `is_flat` tells that a match has no
    `/` beyond `fixed_prefix`.
    """

    pattern: str
    fixed_prefix: str = field(init=False)
    listing_prefix: str = field(init=False)
    is_flat: bool = field(init=False)
    regex: "re.Pattern[str]" = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        pattern = self.pattern + "**" if self.pattern.endswith("/") else self.pattern
        literal, is_whole = _literal_start(pattern)
        folder = literal[: literal.rfind("/") + 1]
        rest = pattern[_META.search(pattern).start() :] if not is_whole else ""  # type: ignore[union-attr]
        object.__setattr__(self, "listing_prefix", literal)
        object.__setattr__(self, "fixed_prefix", folder)
        object.__setattr__(self, "is_flat", not is_whole and "/" not in rest and "**" not in rest)
        object.__setattr__(self, "regex", re.compile(translate(pattern), re.DOTALL))

    def matches(self, key: str) -> bool:
        """Tell whether the whole `key` matches.

        >>> Glob("a/*.csv").matches("a/b.csv"), Glob("a/*.csv").matches("a/b/c.csv")
        (True, False)
        """
        return self.regex.fullmatch(key) is not None


def _literal_start(pattern: str) -> tuple[str, bool]:
    """Return the literal text before the first metacharacter, and whether that is all."""
    found = _META.search(pattern)
    return (pattern, True) if found is None else (pattern[: found.start()], False)


def translate(pattern: str) -> str:
    """Return the regular expression (for `fullmatch` and DOTALL) that `pattern` means."""
    segments = pattern.split("/")
    parts: list[str] = []
    last = len(segments) - 1
    for index, segment in enumerate(segments):
        if segment == "**":
            parts.append(".+" if index == last else "(?:[^/]*/)*")
        else:
            parts.append(_translate_segment(segment))
            if index < last:
                parts.append("/")
    return "".join(parts)


def _translate_segment(segment: str) -> str:
    out: list[str] = []
    at = 0
    while at < len(segment):
        char = segment[at]
        if char == "*":
            out.append("[^/]*")
        elif char == "?":
            out.append("[^/]")
        elif char == "[" and (found := _CLASS.match(segment, at)):
            out.append(_translate_class(found[1] == "!", found[2]))
            at = found.end()
            continue
        else:
            out.append(re.escape(char))
        at += 1
    return "".join(out)


def _translate_class(is_negated: bool, members: str) -> str:
    body = re.sub(r"([\\\[\]^&|~])", r"\\\1", members)
    return f"(?!/)[^{body}]" if is_negated else f"(?!/)[{body}]"


def excludes(patterns: Iterable[str]) -> "re.Pattern[str] | None":
    """Return one compiled matcher (for `fullmatch`) over relative paths, or None for no patterns.

    A pattern without `/` is matched against the base name at any depth, one with `/`
    against the whole relative path.
    """
    parts = []
    for pattern in patterns:
        whole = pattern + "**" if pattern.endswith("/") else pattern
        prefix = "" if "/" in whole else "(?:[^/]*/)*"
        parts.append(f"(?:{prefix}{translate(whole)})")
    return re.compile("|".join(parts), re.DOTALL) if parts else None
