"""`${VAR}`, `${VAR:-default}` and `$${`: the only ways a catalog reads the environment.

Used by the loader, on values only. `x-*` keys are left alone.
"""

import re
from collections.abc import Mapping
from typing import Any

from datacachalog.errors import InvalidValueError
from datacachalog.spec.yaml import Fault, Listing, Place, Table

_REFERENCE = re.compile(
    r"\$\$\{|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^{}]*))?\}|\$\{"
)


def interpolate(text: str, environ: Mapping[str, str]) -> str:
    """Return `text` with its references replaced; an empty variable takes the default.

    >>> interpolate("s3://${BUCKET:-lake}/$${x}", {"BUCKET": "lab"})
    's3://lab/${x}'
    """

    def replaced(match: re.Match[str]) -> str:
        name, default = match["name"], match["default"]
        if match.group() == "$${":
            return "${"
        if name is None:
            raise InvalidValueError(
                f"{text!r} holds a `${{` that is no reference",
                hint="write `${VAR}`, `${VAR:-default}`, or `$${` for the characters themselves",
            )
        value = environ.get(name)
        if default is not None:
            return value or default
        if value is None:
            raise InvalidValueError(
                f"the environment variable `{name}` is not set",
                hint=f"set it, or give a default: `${{{name}:-…}}`",
            )
        return value

    return _REFERENCE.sub(replaced, text)


def interpolate_all(document: Table, environ: Mapping[str, str]) -> list[Fault]:
    """Replace the references in a document in place; return what could not be replaced.

    What could not is left as it was. A value that several aliases share is visited once.
    """
    faults: list[Fault] = []
    seen: set[int] = set()
    pending: list[Table | Listing] = [document]
    while pending:
        container = pending.pop()
        if id(container) in seen:
            continue
        seen.add(id(container))
        for key, item, place in _entries(container):
            if type(item) is str:
                if "${" in item:
                    try:
                        container[key] = interpolate(item, environ)
                    except InvalidValueError as exc:
                        faults.append(Fault(exc.message, place, exc.hint))
            elif isinstance(item, Table | Listing):
                pending.append(item)
    return faults


def _entries(container: Any) -> list[tuple[Any, object, Place]]:
    if isinstance(container, Table):
        return [
            (key, item, container.values_at[key])
            for key, item in container.items()
            if not key.startswith("x-")
        ]
    return [(i, item, container.items_at[i]) for i, item in enumerate(container)]
