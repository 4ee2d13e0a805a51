"""`${VAR}`, `${VAR:-default}` and `$${`: the only ways a catalog reads the environment.

Used by the loader, on values only. `x-*` keys are left alone.
"""

import re
from collections.abc import Mapping

from datacachalog.spec.yaml import Fault, Listing, Place, Table

_REFERENCE = re.compile(
    r"\$\$\{|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^{}]*))?\}|\$\{"
)


class _ReferenceError(Exception):
    """A reference that cannot be read or resolved: a sentence and a hint."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


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
            raise _ReferenceError(
                f"{text!r} holds a `${{` that is no reference",
                "write `${VAR}`, `${VAR:-default}`, or `$${` for the characters themselves",
            )
        value = environ.get(name)
        if default is not None:
            return value or default
        if value is None:
            raise _ReferenceError(
                f"the environment variable `{name}` is not set",
                f"set it, or give a default: `${{{name}:-…}}`",
            )
        return value

    return _REFERENCE.sub(replaced, text)


def interpolate_all(value: object, environ: Mapping[str, str]) -> list[Fault]:
    """Replace the references in a document in place; return what could not be replaced.

    What could not is left as it was. A value that several aliases share is visited once.
    """
    faults: list[Fault] = []
    seen: set[int] = set()
    pending = [value]
    while pending:
        container = pending.pop()
        if not isinstance(container, Table | Listing) or id(container) in seen:
            continue
        seen.add(id(container))
        for key, item, place in _entries(container):
            if type(item) is str:
                if "${" in item:
                    _replace(container, key, item, place, environ, faults)
            elif type(item) is Table or type(item) is Listing:
                pending.append(item)
    return faults


def _entries(container: Table | Listing) -> list[tuple[object, object, Place]]:
    if isinstance(container, Table):
        return [
            (key, item, container.values_at[key])
            for key, item in container.items()
            if not key.startswith("x-")
        ]
    return [(i, item, container.items_at[i]) for i, item in enumerate(container)]


def _replace(
    container: Table | Listing,
    key: object,
    item: str,
    place: Place,
    environ: Mapping[str, str],
    faults: list[Fault],
) -> None:
    try:
        container[key] = interpolate(item, environ)  # type: ignore[call-overload, index]  # its own key
    except _ReferenceError as exc:
        faults.append(Fault(exc.message, place, exc.hint))
