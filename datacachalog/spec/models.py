"""What a user may write in a catalog: one frozen model for each part.

Owns names, defaults, and the rules inside one value or one dataset. Used by the loader, by
`Catalog`, and by programs that build datasets without a file. Knows no files, no environment
and no network: reading and merging is the loader's, where datasets land is `landing`'s.
"""

import posixpath
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from datacachalog.checksums import Checksum
from datacachalog.errors import DatacachalogError, InvalidValueError, UnsupportedSchemeError
from datacachalog.globs import is_glob
from datacachalog.model import Ago, AsOf, Latest, VersionId
from datacachalog.spec.units import format_duration, parse_duration, parse_pin, parse_size
from datacachalog.uri import check_source, resolve_local, scheme_of

_K = TypeVar("_K", str, int)
_T = TypeVar("_T")

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
FORMAT_VERSION = 1

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_RESERVED_FOLDERS = frozenset({".git", ".datacachalog"})
_READER = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")


class FieldError(InvalidValueError):
    """A rule between several keys is broken; `key` is the one to point at."""

    def __init__(self, message: str, *, key: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.key = key


class ItemsError(InvalidValueError):
    """Several items of one value are wrong; `items` pairs each index or key with its error."""

    def __init__(self, items: Sequence[tuple[str | int, DatacachalogError]]) -> None:
        super().__init__("; ".join(error.message for _, error in items), hint=items[0][1].hint)
        self.items = tuple(items)


# --- values of fields ---------------------------------------------------------------


def check_name(value: object) -> str:
    """Return the name of a dataset, storage or catalog if it is one."""
    if not isinstance(value, str) or not re.fullmatch(NAME_PATTERN, value):
        raise InvalidValueError(
            f"{value!r} is not a name",
            hint="use letters, digits, `_`, `-` and `.`, beginning with a letter or a digit",
        )
    return value


def _check_folder(value: object) -> str:
    """Return a path below the project root, normalised; refuse what leaves it."""
    hint = "write a path below the catalog's folder, such as `data/raw`"
    if not isinstance(value, str) or not value.strip():
        raise InvalidValueError(f"{value!r} is not a path", hint="write a path such as `data/raw`")
    if value.startswith(("/", "~")) or "\\" in value or re.match("[A-Za-z]:", value):
        raise InvalidValueError(f"the path {value!r} is not relative to the catalog", hint=hint)
    path = posixpath.normpath(value)
    if path == ".." or path.startswith("../"):
        raise InvalidValueError(f"the path {value!r} leaves the project", hint=hint)
    if path.partition("/")[0].lower() in _RESERVED_FOLDERS or _CONTROL.search(path):
        raise InvalidValueError(
            f"the path {value!r} is not usable", hint="write a path such as `data/raw`"
        )
    return path


def _check_dataset_folder(value: object) -> str:
    path = _check_folder(value)
    if path == ".":
        raise InvalidValueError(
            f"the path {value!r} is the project itself",
            hint="write a folder below it, such as `data/raw`",
        )
    return path


def _check_sources(value: object, info: ValidationInfo) -> str | tuple[str, ...]:
    # A filesystem of the user's own may serve any scheme. The loader says in `context` for which
    # storages there is one; a program may bring it after it made the dataset.
    storage = info.data.get("storage")
    any_scheme = storage is not None and (info.context is None or storage in info.context)
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        return check_source(value, any_scheme=any_scheme)
    if not value:
        raise InvalidValueError(
            "the list of sources is empty", hint="write a URI such as `s3://bucket/key`"
        )
    return tuple(_each(partial(check_source, any_scheme=any_scheme), enumerate(value)).values())


def _each(check: Callable[[object], _T], items: Iterable[tuple[_K, object]]) -> dict[_K, _T]:
    """Return what `check` makes of each item, or raise all its errors at once."""
    good: dict[_K, _T] = {}
    wrong: list[tuple[str | int, DatacachalogError]] = []
    for key, item in items:
        try:
            good[key] = check(item)
        except (InvalidValueError, UnsupportedSchemeError) as exc:
            wrong.append((key, exc))
    if wrong:
        raise ItemsError(wrong)
    return good


def _check_texts(value: object) -> tuple[str, ...]:
    items = (value,) if isinstance(value, str) else value
    if not isinstance(items, Sequence) or not all(isinstance(item, str) for item in items):
        raise InvalidValueError("must be a text or a list of texts", hint='write `["one", "two"]`')
    return tuple(items)


def _parse_max_age(value: str | timedelta) -> timedelta:
    return timedelta(0) if value == 0 else parse_duration(value)


def _check_checksum(value: object) -> str | dict[str, str]:
    if isinstance(value, Mapping):
        checksums = _each(Checksum.parse, value.items())
        return {str(path): str(checksum) for path, checksum in checksums.items()}
    return str(Checksum.parse(value))


def _check_reader(value: object) -> str:
    if isinstance(value, str) and _READER.fullmatch(value):
        return value
    raise InvalidValueError(
        f"{value!r} is not a reader", hint="write a function's full name: `polars.read_csv`"
    )


def _or_none(check: Callable[[Any], object]) -> PlainValidator:
    """Return a validator that leaves None as it is."""
    return PlainValidator(lambda value: None if value is None else check(value))


def _read_flag(value: object) -> object:
    # What came out of ${VAR} is text.
    return _FLAGS.get(value.lower(), value) if isinstance(value, str) else value


def _schema(*types: str, **rules: object) -> WithJsonSchema:
    return WithJsonSchema({"type": types[0] if len(types) == 1 else list(types), **rules})


_FLAGS = {"true": True, "false": False}
Flag = Annotated[bool, BeforeValidator(_read_flag), Field(strict=True)]
# `${VAR:-}` is how a setting is left out.
OptionalText = Annotated[str | None, BeforeValidator(lambda value: None if value == "" else value)]
Secret = Annotated[OptionalText, Field(repr=False, exclude=True)]
Name = Annotated[str, PlainValidator(check_name), _schema("string", pattern=NAME_PATTERN)]
Texts = Annotated[
    Sequence[str],
    PlainValidator(_check_texts),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]
PinText = Annotated[
    str | int | date | datetime | timedelta | Latest | AsOf | Ago | None,
    _or_none(parse_pin),
    PlainSerializer(str, when_used="json-unless-none"),
    _schema("string", "integer", "null"),
]
Size = Annotated[int | None, _or_none(parse_size), _schema("string", "integer", "null", minimum=0)]
Duration = Annotated[
    timedelta | None,
    _or_none(_parse_max_age),
    PlainSerializer(format_duration, when_used="json-unless-none"),
    _schema("string", "null"),
]
_SOURCE = {"type": "string", "minLength": 1}


class _Spec(BaseModel):
    """What all models share: frozen, no unknown keys but `x-*`, no values in messages."""

    # Built when first used: a command that needs one model does not wait for six.
    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, defer_build=True
    )

    @model_validator(mode="before")
    @classmethod
    def _leave_out_free_keys(cls, value: object) -> object:
        if isinstance(value, dict):
            free = [key for key in value if str(key)[:2] == "x-"]
            return {k: v for k, v in value.items() if k not in free} if free else value
        return value


def _field(default: object, description: str, *examples: object) -> Any:
    """Return a key that may be left out, with what an editor shows at it."""
    return Field(default=default, description=description, examples=list(examples))


# --- storages and settings ----------------------------------------------------------


class StorageSettings(_Spec):
    """How to reach a storage, in s3fs's terms; what is left out comes from the environment.

    The standard AWS environment (`AWS_PROFILE`, `AWS_ENDPOINT_URL`, `AWS_REGION`, the
    credentials chain) works without any of these. Keys appear in no `repr` and in no dump.
    """

    profile: OptionalText = _field(
        None, "A profile of `~/.aws/config`, for SSO, roles or keys.", "analytics"
    )
    anon: Flag = _field(False, "Send no credentials: for public buckets.", True)
    endpoint_url: OptionalText = _field(
        None,
        "The server, where it is not Amazon's: MinIO, Ceph, R2, a proxy, ….",
        "https://minio.example.com",
        "${LAB_S3:-http://localhost:9000}",
    )
    region: OptionalText = _field(None, "The region of the buckets.", "eu-central-1")
    key: Secret = _field(None, "The access key id, only as `${VAR}`.", "${LAB_ACCESS_KEY}")
    secret: Secret = _field(None, "The secret access key, only as `${VAR}`.", "${LAB_SECRET_KEY}")
    token: Secret = _field(
        None, "The session token of temporary keys, only as `${VAR}`.", "${LAB_SESSION_TOKEN}"
    )
    sse_customer_key: Secret = _field(
        None,
        "The key that the bucket's objects are encrypted with (SSE-C), in base64, "
        "only as `${VAR}`.",
        "${LAB_SSE_KEY}",
    )
    requester_pays: Flag = _field(False, "Agree to pay for requests and traffic.", True)
    addressing_style: Literal["auto", "path", "virtual"] = _field(
        "auto", "Where the bucket's name goes: into the path or into the host name.", "path"
    )
    ca_bundle: OptionalText = _field(
        None, "A file of certificates to trust, relative to the catalog.", "certs/lab.pem"
    )
    verify: Flag = _field(True, "Check the server's certificate.", False)
    engine: Literal["auto", "fsspec"] = _field(
        "auto",
        "`auto`: obstore where it serves; `fsspec`: never. `DCL_ENGINE` stands above.",
        "fsspec",
    )

    @model_validator(mode="after")
    def _check(self) -> "StorageSettings":
        if self.anon and (self.key or self.secret or self.profile):
            raise FieldError(
                "`anon: true` sends no credentials, but some are given",
                key="anon",
                hint="remove `anon`, or remove `profile`, `key` and `secret`",
            )
        if (self.key is None) != (self.secret is None):
            given, missing = ("key", "secret") if self.secret is None else ("secret", "key")
            raise FieldError(
                f"`{given}` is given without `{missing}`",
                key=given,
                hint=f"add `{missing}: ${{{missing.upper()}}}`",
            )
        if self.endpoint_url and not self.endpoint_url.startswith(("http://", "https://")):
            raise FieldError(
                f"the endpoint {self.endpoint_url!r} is no web address",
                key="endpoint_url",
                hint=f"write `https://{self.endpoint_url}`",
            )
        return self


SECRETS = tuple(key for key, field in StorageSettings.model_fields.items() if field.exclude)
"""What a storage's settings take from the environment only."""


class DataSettings(_Spec):
    """Where datasets land in the project."""

    dir: Annotated[str, PlainValidator(_check_folder), _schema("string")] = _field(
        "data", "The folder that holds one folder for each dataset, below the catalog's.", "data"
    )
    layout: Literal["name", "source"] = _field(
        "name",
        "`name`: a dataset's folder has its name. `source`: it mirrors the key's path.",
        "name",
    )


class CacheSettings(_Spec):
    """The store of objects that projects on one machine share."""

    dir: OptionalText = _field(
        None,
        "The cache folder; `DCL_CACHE_DIR` stands above it. Left out: the user's.",
        "/scratch/datacachalog",
    )
    link: Literal["auto", "reflink", "hardlink", "copy"] = _field(
        "auto", "How a cached object comes into `data/`; `auto` takes the first that works.", "auto"
    )
    max_size: Size = _field(
        None, "How large the cache may grow; the least recently used objects go first.", "50 GB"
    )


# --- datasets -----------------------------------------------------------------------


class Defaults(_Spec):
    """What may be said once for all datasets; a dataset's own key replaces it."""

    owner: str | None = _field(None, "Who to ask about it.", "team-sales")
    tags: Texts = _field((), "Words to find it by.", ["pii"])
    exclude: Texts = _field(
        (), "Patterns of what a glob matches but must not bring: names or paths.", ["*_tmp.parquet"]
    )
    storage: Name | None = _field(None, "One of `storages`: how to reach the source.", "lake")
    allow_empty: Flag = _field(False, "Accept a glob that matches nothing.", True)
    format: str | None = _field(
        None, "What the files are, where their suffix does not tell.", "parquet"
    )
    reader: Annotated[str | None, _or_none(_check_reader), _schema("string", "null")] = _field(
        None, "The function that `catalog.load` calls.", "polars.scan_parquet"
    )
    read_args: Mapping[str, Any] = Field(
        default_factory=dict,
        description="Keyword arguments for the reader.",
        examples=[{"hive_partitioning": True}],
    )
    push: Flag = _field(False, "Let `dcl push` replace the source.", True)
    metadata: Mapping[str, Any] = Field(
        default_factory=dict, description="Anything you like.", examples=[{"ticket": "DATA-12"}]
    )
    on_stale: Literal["warn", "error"] = _field(
        "warn",
        "When the source cannot be reached and files are in place: use them, or fail.",
        "error",
    )
    max_age: Duration = _field(
        None, "Trust the last check for this long before asking the source again.", "10 minutes"
    )


class Dataset(Defaults):
    """One named dataset: where it comes from, at which point in time, and where it lands.

    >>> orders = Dataset(name="orders", source="s3://lake/orders/**/*.parquet")
    >>> orders.sources, orders.is_glob, orders.is_pinned
    (('s3://lake/orders/**/*.parquet',), True, False)
    """

    name: Name
    source: Annotated[
        str | Sequence[str],
        PlainValidator(_check_sources),
        WithJsonSchema({"anyOf": [_SOURCE, {"type": "array", "items": _SOURCE, "minItems": 1}]}),
    ] = Field(
        description="A URI or a path, or a list of them. `*`, `?`, `[…]` and `**` match many.",
        examples=["s3://bucket/orders/**/*.parquet", "reference/countries.csv"],
    )
    description: str | None = _field(None, "What it is, in a sentence.", "Orders, one file a day")
    as_of: PinText = _field(
        None,
        "The source as it was then: a date, an instant with a zone, or a duration.",
        "2024-12-10",
        "2024-12-10T09:30Z",
        "7 days",
        "latest",
    )
    version_id: OptionalText = _field(
        None,
        "Exactly this version, of a single object; excludes `as_of`.",
        "3/L4kqtJlcpXroDTDmJ+rmSpXd3dIbrHY",
    )
    checksum: Annotated[
        str | Mapping[str, str] | None,
        _or_none(_check_checksum),
        WithJsonSchema(
            {
                "anyOf": [
                    {"type": "string"},
                    {"type": "object", "additionalProperties": {"type": "string"}},
                    {"type": "null"},
                ]
            }
        ),
    ] = _field(
        None,
        "What the bytes must hash to: one for a single object, or one for each path.",
        "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    )
    path: Annotated[str | None, _or_none(_check_dataset_folder), _schema("string", "null")] = (
        _field(
            None,
            "The folder where it lands, relative to the catalog; else `data/<name>`.",
            "inputs/orders",
        )
    )

    @property
    def sources(self) -> tuple[str, ...]:
        """Return the sources as a tuple, also where there is one."""
        return (self.source,) if isinstance(self.source, str) else tuple(self.source)

    @property
    def pin(self) -> Latest | AsOf | Ago | VersionId:
        """Return the pin that `as_of` and `version_id` mean together."""
        if self.version_id is not None:
            return VersionId(self.version_id)
        return Latest() if self.as_of is None else parse_pin(self.as_of)

    @property
    def is_glob(self) -> bool:
        """Tell whether any source is a pattern."""
        return any(is_glob(source) for source in self.sources)

    @property
    def is_single(self) -> bool:
        """Tell whether the dataset is one object: one source, no pattern."""
        return isinstance(self.source, str) and not is_glob(self.source)

    @property
    def is_pinned(self) -> bool:
        """Tell whether the dataset stands still or lags, instead of following the latest."""
        return not isinstance(self.pin, Latest)

    def checksum_of(self, relpath: str) -> Checksum | None:
        """Return what the file at `relpath` must hash to, or None if nothing is demanded."""
        text = self.checksum
        if isinstance(text, Mapping):
            text = text.get(relpath)
        return None if text is None else Checksum(*text.split(":"))

    def with_resolved_paths(self, root: Path) -> "Dataset":
        """Return the dataset with every local source as `file://` and an absolute path.

        Relative sources are relative to `root`, and `~/` is the user's home.

        >>> Dataset(name="x", source="in/*.csv").with_resolved_paths(Path("/work")).source
        'file:///work/in/*.csv'
        """
        resolved = tuple(resolve_local(source, root) for source in self.sources)
        if resolved == self.sources:
            return self
        source = resolved[0] if isinstance(self.source, str) else resolved
        return self.model_copy(update={"source": source})

    @model_validator(mode="after")
    def _check(self) -> "Dataset":
        if self.version_id is not None and self.as_of is not None:
            raise FieldError(
                "`version_id` and `as_of` exclude each other",
                key="version_id",
                hint="remove one of them",
            )
        if self.version_id is not None and not self.is_single:
            raise FieldError(
                "`version_id` needs a single object",
                key="version_id",
                hint="use `as_of` for a glob or a list",
            )
        if isinstance(self.checksum, str) and not self.is_single:
            raise FieldError(
                "one checksum cannot hold for several objects",
                key="checksum",
                hint='write one for each path: `checksum: {"a.csv": "sha256:…"}`',
            )
        schemes = {scheme_of(source) for source in self.sources}
        if len(schemes) > 1:
            raise FieldError(
                f"the sources are of different kinds ({', '.join(sorted(schemes))})",
                key="source",
                hint="make one dataset of each kind",
            )
        return self


class CatalogSpec(_Spec):
    """A whole catalog file, as written (short forms of datasets spelt out).

    The loader takes its keys from here; it validates the parts one by one, for their places.
    """

    version: Literal[1] = _field(1, "The version of this format.", 1)
    as_of: PinText = _field(
        None, "For every dataset that says nothing itself; there `latest` opts out.", "2024-12-10"
    )
    include: Texts = _field(
        (), "Further catalog files, relative to this one.", ["shared/common.yaml"]
    )
    data: DataSettings = Field(
        default_factory=DataSettings, description="Where the datasets land, below this file."
    )
    cache: CacheSettings = Field(
        default_factory=CacheSettings, description="The store that projects share."
    )
    storages: Mapping[Name, StorageSettings] = Field(
        default_factory=dict,
        description="How to reach storages, by a name of your choice.",
        examples=[{"lake": {"profile": "analytics", "region": "eu-central-1"}}],
    )
    defaults: Defaults = Field(
        default_factory=Defaults, description="Merged under each dataset of the catalog."
    )
    datasets: Mapping[Name, Dataset] = Field(
        default_factory=dict,
        description="The datasets by name; the short form of one is its source.",
        examples=[{"customers": "s3://bucket/customers.parquet"}],
    )
