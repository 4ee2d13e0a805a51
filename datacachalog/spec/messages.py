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
    "aws_access_key_id": "key",
    "access_key": "key",
    "access_key_id": "key",
    "aws_secret_access_key": "secret",
    "secret_access_key": "secret",
    "secret_key": "secret",
    "aws_session_token": "token",
    "session_token": "token",
    "region_name": "region",
    "endpoint": "endpoint_url",
    "url": "source",
    "uri": "source",
    "urls": "source",
    "sources": "source",
    "dest": "path",
    "target": "path",
    "cache_path": "path",
    "hash": "checksum",
    "known_hash": "checksum",
    "sha256": "checksum",
    "version": "version_id",
    "anonymous": "anon",
    "desc": "description",
    "title": "description",
    "date": "as_of",
    "ttl": "max_age",
    "ignore": "exclude",
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
    elif kind == "bool_type":
        hint = _flag_hint(key, value)
    return f"`{key}` must be {need}, not {shown(value)}", hint


def _flag_hint(key: str, value: object) -> str | None:
    word = str(value).lower()
    if word in {"yes", "on", "y", "1"}:
        return f"write `{key}: true`"
    if word in {"no", "off", "n", "0"}:
        return f"write `{key}: false`"
    return None


def shown(value: object) -> str:
    """Return a value as a sentence shows it: text in quotes, the rest in a word or two."""
    if isinstance(value, dict):
        return "keys and values"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, str):
        return repr(value)
    return "nothing" if value is None else f"the {_kind(value)} {_plain(value)}"


def _kind(value: object) -> str:
    return "value" if isinstance(value, bool) else "number"


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
