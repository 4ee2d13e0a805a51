"""What pydantic found, in our words: one sentence, one hint.

Used by the loader. Every sentence names the key and what it needs; values are repeated only
where they cannot be secrets.
"""

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from datacachalog.errors import DatacachalogError
from datacachalog.suggest import nearest

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_OFTEN_MEANT = {
    word: key
    for key, words in {
        "key": "aws_access_key_id access_key access_key_id",
        "secret": "aws_secret_access_key secret_access_key secret_key",
        "token": "aws_session_token session_token",
        "region": "region_name",
        "endpoint_url": "endpoint",
        "source": "url uri urls sources",
        "path": "dest target cache_path",
        "checksum": "hash known_hash sha256",
        "version_id": "version",
        "anon": "anonymous",
        "description": "desc title",
        "as_of": "date",
        "max_age": "ttl",
        "exclude": "ignore",
    }.items()
    for word in words.split()
}
_NESTED = {
    "client_kwargs": "its keys `endpoint_url`, `region` and `verify` stand in the storage itself",
    "config_kwargs": "its key `addressing_style` stands in the storage itself",
    "name": "the key above is the name: remove this one",
}
_NEEDS = {
    "string_type": ("text", None),
    "bool_type": ("`true` or `false`", None),
    "mapping_type": ("keys and values", "write `{key: value}`"),
    "dict_type": ("keys and values", "write `{key: value}`"),
}
_FLAG_WORDS = {
    **dict.fromkeys(("yes", "on", "y", "1"), "true"),
    **dict.fromkeys(("no", "off", "n", "0"), "false"),
}


def unknown_key(key: str, known: Iterable[str], where: str) -> tuple[str, str | None]:
    """Return sentence and hint for a key that has no meaning in `where`."""
    known = list(known)
    message = f"unknown key `{key}` {where}"
    if key in _NESTED and key not in known:
        return message, _NESTED[key]
    meant = _OFTEN_MEANT.get(key.lower())
    if meant not in known:
        meant = nearest(key, known)
    if meant is not None:
        return message, f"did you mean `{meant}`?"
    return message, f"known keys are {', '.join(known)}; `x-{key}` may hold anything"


def invalid_value(error: "ErrorDetails", raw: Mapping[str, object]) -> tuple[str, str | None]:
    """Return sentence and hint for one of pydantic's errors about a value of `raw`."""
    context = error.get("ctx", {})
    cause = context.get("error")
    key = str(error["loc"][0]) if error["loc"] else "value"
    if isinstance(cause, DatacachalogError):
        is_rest = cause.message.startswith("must ")
        return f"`{key}` {cause.message}" if is_rest else cause.message, cause.hint
    value = raw.get(key)
    kind = error["type"]
    if kind == "literal_error":
        expected = str(context.get("expected", "")).replace("'", "`")
        choices = re.findall(r"`(\w+)`", expected)
        meant = (nearest(str(value), choices) if isinstance(value, str) else None) or choices[0]
        return f"`{key}` must be {expected}, not {shown(value)}", f"write `{key}: {meant}`"
    need, hint = _NEEDS.get(kind, (None, None))
    if need is None:
        return f"`{key}`: {error['msg'][:1].lower()}{error['msg'][1:]}", None
    if kind == "string_type" and not isinstance(value, dict | list):
        hint = f'put it in quotes: `{key}: "{_plain(value)}"`'
    elif kind == "bool_type" and (word := str(value).lower()) in _FLAG_WORDS:
        hint = f"write `{key}: {_FLAG_WORDS[word]}`"
    return f"`{key}` must be {need}, not {shown(value)}", hint


def shown(value: object) -> str:
    """Return a value as a sentence shows it: text in quotes, the rest in a word or two."""
    if isinstance(value, dict):
        return "keys and values"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, str):
        return repr(value)
    if value is None:
        return "nothing"
    return f"the {'value' if isinstance(value, bool) else 'number'} {_plain(value)}"


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
