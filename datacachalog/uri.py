"""Sources as text: which URIs are accepted, and their parts.

Owns the table of schemes and the rules of spelling. Keys are raw: never percent-decoded, never
normalised; what is a pattern, `globs` says.
"""

import os
import re
from pathlib import Path

from datacachalog.errors import InvalidValueError, UnsupportedSchemeError

# Sources are spelt as patterns are: whoever works with sources finds both here.
from datacachalog.globs import Glob
from datacachalog.globs import escape as escape
from datacachalog.globs import is_glob as is_glob
from datacachalog.globs import unescape as unescape

SCHEMES = frozenset({"file", "memory", "s3"})
"""Every scheme a source may have; a source without one is a local path."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
# Compiled when first used (`re` keeps them): a start that reads no catalog needs none.
_MISSPELT_SCHEME = r"(?i)(s3[an]?|file|memory):/?(?=[^/])"
_CHAIN = r"^[A-Za-z][A-Za-z0-9+.-]*::|::[A-Za-z][A-Za-z0-9+.-]*://"
_S3_WEB_ADDRESS = r"(?i)https?://(?:([^/.]+)\.)?s3(?:[.-][a-z0-9-]+)?\.amazonaws\.com/([^?]*)"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_META = re.compile(r"[*?\[]")


def check_source(text: object, *, any_scheme: bool = False) -> str:
    """Return the source as it is used: scheme in lower case, a trailing `/` spelt out as `/**`.

    Raises one sentence with a hint for what no storage could serve; with `any_scheme` a
    filesystem of the user's own may.

    >>> check_source("s3://lake/orders/")
    's3://lake/orders/**'
    """
    if not isinstance(text, str) or not text.strip():
        raise InvalidValueError(
            "the source is empty" if isinstance(text, str) else "the source is not text",
            hint="write a URI such as `s3://bucket/key`, or a path",
        )
    _refuse_what_is_no_uri(text)
    match = _SCHEME.match(text)
    if match is None:
        return f"{text}**" if text.endswith("/") else text
    scheme, rest = match.group(1).lower(), text[match.end() :]
    if scheme not in SCHEMES and not any_scheme:
        raise UnsupportedSchemeError(
            f"the scheme of {text!r} is not supported", hint=_supported(scheme, text, rest)
        )
    if scheme == "file":
        _check_file(text, rest)
    elif scheme in SCHEMES or not rest:
        _check_bucket(text, scheme, rest)
    return f"{scheme}://{rest}**" if rest.endswith("/") else f"{scheme}://{rest}"


def _refuse_what_is_no_uri(text: str) -> None:
    match = _SCHEME.match(text)
    authority = text[match.end() :].partition("/")[0] if match else ""
    if "@" in authority:
        # The text is not repeated: it holds a secret.
        raise InvalidValueError(
            "a source must not hold credentials",
            hint="name a storage with `key: ${VAR}` and `secret: ${VAR}` under `storages:`",
        )
    if _CONTROL.search(text):
        raise InvalidValueError(
            f"the source {text!r} holds a control character",
            hint="match such a character with `?`",
        )
    if re.search(_CHAIN, text):
        raise UnsupportedSchemeError(
            f"{text!r} chains file systems, which is not supported",
            hint="name the stored object itself, such as `s3://bucket/key`",
        )
    if match is None and (typo := re.match(_MISSPELT_SCHEME, text)):
        raise InvalidValueError(
            f"the source {text!r} is no complete URI",
            hint=f"write `{typo.group(1).lower()}://{text[typo.end() :]}`",
        )


def _supported(scheme: str, text: str, rest: str) -> str:
    if scheme in {"s3a", "s3n"}:
        return f"write `s3://{rest}`"
    if web := re.match(_S3_WEB_ADDRESS, text):
        host_bucket, path = web.groups()
        return f"write `s3://{f'{host_bucket}/{path}' if host_bucket else path}`"
    return "write `s3://bucket/key`, `file:///path`, or a path"


def _check_file(text: str, rest: str) -> None:
    if not rest.startswith("/"):
        raise InvalidValueError(
            f"the source {text!r} is not absolute",
            hint=f"write `file:///…`, or `{rest or 'a path'}` for a path relative to the catalog",
        )


def _check_bucket(text: str, scheme: str, rest: str) -> None:
    bucket, slash, key = rest.partition("/")
    if not bucket or _META.search(bucket):
        raise InvalidValueError(
            f"the source {text!r} names no bucket", hint=f"write `{scheme}://bucket/key`"
        )
    if not slash:
        raise InvalidValueError(
            f"the source {text!r} names no object",
            hint=f"write `{scheme}://{bucket}/**` for everything in the bucket",
        )
    before, marker, version = key.partition("?versionId=")
    if marker:
        raise InvalidValueError(
            f"the source {text!r} holds a version",
            hint=f'write `source: {scheme}://{bucket}/{before}` and `version_id: "{version}"`',
        )


def scheme_of(source: str) -> str:
    """Return the scheme; `file` for a path without one."""
    match = _SCHEME.match(source)
    return match.group(1).lower() if match else "file"


def split(source: str) -> tuple[str, str, str]:
    """Return scheme, bucket and key; a local path has no bucket, and is its own key.

    >>> split("s3://lake/orders/2026.csv"), split("file:///data/x.csv")
    (('s3', 'lake', 'orders/2026.csv'), ('file', '', '/data/x.csv'))
    """
    match = _SCHEME.match(source)
    if match is None:
        return "file", "", source
    scheme, rest = match.group(1).lower(), source[match.end() :]
    if scheme == "file":
        return scheme, "", rest
    bucket, _, key = rest.partition("/")
    return scheme, bucket, key


def fixed_folder(key: str) -> str:
    """Return the folder below which relative paths begin: all before the last fixed `/`.

    >>> fixed_folder("orders/year=2026/**/*.parquet"), fixed_folder("a/b.csv"), fixed_folder("x")
    ('orders/year=2026', 'a', '')
    """
    if is_glob(key):
        return Glob(key).fixed_prefix.removesuffix("/")
    return unescape(key).rpartition("/")[0]


def resolve_local(source: str, folder: Path) -> str:
    """Return a local source as `file://` and an absolute pattern; others as they are.

    A relative path is relative to `folder`; `~/` is the user's home. What stands before the
    user's own text is escaped, so that a folder called `[old]` is no pattern.
    """
    if _SCHEME.match(source):
        return source
    if source.startswith("~/"):
        home, source = os.path.expanduser("~"), source[2:]
        return f"file://{os.path.normpath(os.path.join(escape(home), source))}"
    return f"file://{os.path.normpath(os.path.join(escape(os.path.abspath(folder)), source))}"
