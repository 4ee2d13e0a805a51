"""Names, keys, counts and messages become text that can do a terminal no harm.

Everything that comes from outside (keys, names, paths, messages) passes through
`visible` before it is shown to a person.
"""

import os
from pathlib import Path


def visible(text: str) -> str:
    r"""Return `text` with every character that does not print written as its escape.

    Control characters (ESC and C1 among them), line breaks, bidirectional marks, other
    invisible characters, odd spaces and lone surrogates become `\n`, `\x1b`, `\u202e`, ...
    Printable text of any script stays as it is, so the result is one line of known width.

    >>> visible("plain, größe, 数据")
    'plain, größe, 数据'
    >>> print(visible("red\x1b[31m\nnext"))
    red\x1b[31m\nnext
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def _escape(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")


def plural(count: int, noun: str) -> str:
    """Return the count with its noun.

    >>> plural(1, "file"), plural(1203, "file")
    ('1 file', '1,203 files')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def shown_path(path: Path) -> str:
    """Return the path as a person would type it here."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
