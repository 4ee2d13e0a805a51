"""What a user may write in a catalog: one frozen model for each part.

Owns names, defaults, and the rules inside one value or one dataset; what follows from a valid
one is in `dataset`. Used by the loader, by `Catalog`, and by programs that build datasets
without a file. Knows no files, no environment and no network: reading and merging is the
loader's.
"""

import posixpath
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from functools import partial
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

from datacachalog.checksums import ALGORITHMS, Checksum
from datacachalog.errors import DatacachalogError, InvalidValueError, UnsupportedSchemeError
from datacachalog.model import Ago, AsOf, Latest
from datacachalog.spec.landing import (
    NAME_PATTERN,
    DatasetRules,
    FieldError,
    ItemsError,
    check_name,
)
from datacachalog.spec.units import format_duration, parse_duration, parse_pin, parse_size
from datacachalog.uri import check_source, scheme_of

_K = TypeVar("_K", str, int)
_T = TypeVar("_T")

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_RESERVED_FOLDERS = frozenset({".git", ".datacachalog"})
_READER = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")


# --- checksums ----------------------------------------------------------------------


def parse_checksum(text: object) -> Checksum:
    """Return the checksum written as `algorithm:hex`.

    >>> str(parse_checksum("SHA-1:A9993E364706816ABA3E25717850C26C9CD0D89D"))
    'sha1:a9993e364706816aba3e25717850c26c9cd0d89d'
    """
    if not isinstance(text, str):
        raise InvalidValueError(f"`{text}` is not a checksum", hint=_CHECKSUM_HINT)
    algorithm, colon, digest = text.strip().partition(":")
    algorithm, digest = algorithm.lower().replace("sha-", "sha"), digest.lower()
    if not colon or algorithm not in ALGORITHMS:
        raise InvalidValueError(
            f"{text!r} is not a checksum", hint=_checksum_hint(text.strip().lower())
        )
    if not re.fullmatch(f"[0-9a-f]{{{ALGORITHMS[algorithm]}}}", digest):
        raise InvalidValueError(
            f"{text!r} is not a checksum",
            hint=f"{algorithm} has {ALGORITHMS[algorithm]} hexadecimal digits",
        )
    return Checksum(algorithm, digest)


_CHECKSUM_HINT = "write the algorithm and the digest in hex: `sha256:…`, `md5:…` or `blake3:…`"


def _checksum_hint(text: str) -> str:
    if re.fullmatch("[0-9a-f]+", text):
        likely = {digits: name for name, digits in ALGORITHMS.items()}.get(len(text))
        if likely:
            return f"write `{likely}:{text}`"
    return _CHECKSUM_HINT


# --- values of fields ---------------------------------------------------------------


def _check_folder(value: object) -> str:
    """Return a path below the project root, normalised; refuse what leaves it."""
    if not isinstance(value, str) or not value.strip():
        raise InvalidValueError(f"{value!r} is not a path", hint="write a path such as `data/raw`")
    if value.startswith(("/", "~")) or "\\" in value or re.match("[A-Za-z]:", value):
        raise InvalidValueError(
            f"the path {value!r} is not relative to the catalog",
            hint="write a path below the catalog's folder, such as `data/raw`",
        )
    path = posixpath.normpath(value)
    if path == ".." or path.startswith("../"):
        raise InvalidValueError(
            f"the path {value!r} leaves the project",
            hint="write a path below the catalog's folder, such as `data/raw`",
        )
    if path.partition("/")[0].lower() in _RESERVED_FOLDERS or _CONTROL.search(path):
        raise InvalidValueError(
            f"the path {value!r} is not usable", hint="write a path such as `data/raw`"
        )
    return path


def _check_dataset_folder(value: object) -> str | None:
    if value is None:
        return None
    path = _check_folder(value)
    if path == ".":
        raise InvalidValueError(
            f"the path {value!r} is the project itself",
            hint="write a folder below it, such as `data/raw`",
        )
    return path


def _check_sources(value: object, info: ValidationInfo) -> str | tuple[str, ...]:
    check = partial(check_source, any_scheme=_may_be_brought(info))
    if isinstance(value, str):
        return check(value)
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        if not value:
            raise InvalidValueError(
                "the list of sources is empty", hint="write a URI such as `s3://bucket/key`"
            )
        return tuple(_each(check, enumerate(value)).values())
    return check(value)


def _may_be_brought(info: ValidationInfo) -> bool:
    """Tell whether a filesystem of the user's own may serve the source.

    The loader says in `context` for which storages there is one; a program that makes a
    dataset may bring it later, for any storage that the dataset names.
    """
    storage = info.data.get("storage")
    return storage is not None and (info.context is None or storage in info.context)


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


def _check_pin(value: object) -> Latest | AsOf | Ago | None:
    return None if value is None else parse_pin(value)


def _check_size(value: object) -> int | None:
    return None if value is None else parse_size(value)  # type: ignore[arg-type]  # it checks


def _check_max_age(value: object) -> timedelta | None:
    if value is None:
        return None
    return timedelta(0) if value == 0 else parse_duration(value)  # type: ignore[arg-type]  # same


def _check_checksum(value: object) -> str | dict[str, str] | None:
    if value is None:
        return None
    if isinstance(value, Mapping):
        checksums = _each(parse_checksum, value.items())
        return {str(path): str(checksum) for path, checksum in checksums.items()}
    return str(parse_checksum(value))


def _check_reader(value: object) -> str | None:
    if value is None or (isinstance(value, str) and _READER.fullmatch(value)):
        return value
    raise InvalidValueError(
        f"{value!r} is not a reader", hint="write a function's full name: `polars.read_csv`"
    )


def _read_flag(value: object) -> object:
    # What came out of ${VAR} is text.
    return _FLAGS.get(value.lower(), value) if isinstance(value, str) else value


def _empty_is_none(value: object) -> object:
    # `${VAR:-}` is how a setting is left out.
    return None if value == "" else value


_FLAGS = {"true": True, "false": False}

Flag = Annotated[bool, BeforeValidator(_read_flag), Field(strict=True)]
OptionalText = Annotated[str | None, BeforeValidator(_empty_is_none)]
Name = Annotated[
    str, PlainValidator(check_name), WithJsonSchema({"type": "string", "pattern": NAME_PATTERN})
]
Texts = Annotated[
    Sequence[str],
    PlainValidator(_check_texts),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]
PinText = Annotated[
    str | int | date | datetime | timedelta | Latest | AsOf | Ago | None,
    PlainValidator(_check_pin),
    PlainSerializer(str, when_used="json-unless-none"),
    WithJsonSchema({"type": ["string", "integer", "null"]}),
]
Size = Annotated[
    int | None,
    PlainValidator(_check_size),
    WithJsonSchema({"type": ["string", "integer", "null"], "minimum": 0}),
]
Duration = Annotated[
    timedelta | None,
    PlainValidator(_check_max_age),
    PlainSerializer(format_duration, when_used="json-unless-none"),
    WithJsonSchema({"type": ["string", "null"]}),
]


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


# --- storages and settings ----------------------------------------------------------


class StorageSettings(_Spec):
    """How to reach a storage, in s3fs's terms; what is left out comes from the environment.

    The standard AWS environment (`AWS_PROFILE`, `AWS_ENDPOINT_URL`, `AWS_REGION`, the
    credentials chain) works without any of these. Keys appear in no `repr` and in no dump.
    """

    profile: OptionalText = Field(
        default=None,
        description="A profile of `~/.aws/config`, for SSO, roles or keys.",
        examples=["analytics"],
    )
    anon: Flag = Field(
        default=False, description="Send no credentials: for public buckets.", examples=[True]
    )
    endpoint_url: OptionalText = Field(
        default=None,
        description="The server, where it is not Amazon's: MinIO, Ceph, R2, a proxy, ….",
        examples=["https://minio.example.com", "${LAB_S3:-http://localhost:9000}"],
    )
    region: OptionalText = Field(
        default=None, description="The region of the buckets.", examples=["eu-central-1"]
    )
    key: OptionalText = Field(
        default=None,
        repr=False,
        exclude=True,
        description="The access key id, only as `${VAR}`.",
        examples=["${LAB_ACCESS_KEY}"],
    )
    secret: OptionalText = Field(
        default=None,
        repr=False,
        exclude=True,
        description="The secret access key, only as `${VAR}`.",
        examples=["${LAB_SECRET_KEY}"],
    )
    token: OptionalText = Field(
        default=None,
        repr=False,
        exclude=True,
        description="The session token of temporary keys, only as `${VAR}`.",
        examples=["${LAB_SESSION_TOKEN}"],
    )
    sse_customer_key: OptionalText = Field(
        default=None,
        repr=False,
        exclude=True,
        description="The key that the bucket's objects are encrypted with (SSE-C), in base64, "
        "only as `${VAR}`.",
        examples=["${LAB_SSE_KEY}"],
    )
    requester_pays: Flag = Field(
        default=False, description="Agree to pay for requests and traffic.", examples=[True]
    )
    addressing_style: Literal["auto", "path", "virtual"] = Field(
        default="auto",
        description="Where the bucket's name goes: into the path or into the host name.",
        examples=["path"],
    )
    ca_bundle: OptionalText = Field(
        default=None,
        description="A file of certificates to trust, relative to the catalog.",
        examples=["certs/lab.pem"],
    )
    verify: Flag = Field(
        default=True, description="Check the server's certificate.", examples=[False]
    )
    engine: Literal["auto", "fsspec"] = Field(
        default="auto",
        description="`auto`: obstore where it serves; `fsspec`: never. `DCL_ENGINE` stands above.",
        examples=["fsspec"],
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


class DataSettings(_Spec):
    """Where datasets land in the project."""

    dir: Annotated[str, PlainValidator(_check_folder), WithJsonSchema({"type": "string"})] = Field(
        default="data",
        description="The folder that holds one folder for each dataset, below the catalog's.",
        examples=["data"],
    )
    layout: Literal["name", "source"] = Field(
        default="name",
        description="`name`: a dataset's folder has its name. `source`: it mirrors the key's path.",
        examples=["name"],
    )


class CacheSettings(_Spec):
    """The store of objects that projects on one machine share."""

    dir: OptionalText = Field(
        default=None,
        description="The cache folder; `DCL_CACHE_DIR` stands above it. Left out: the user's.",
        examples=["/scratch/datacachalog"],
    )
    link: Literal["auto", "reflink", "hardlink", "copy"] = Field(
        default="auto",
        description="How a cached object comes into `data/`; `auto` takes the first that works.",
        examples=["auto"],
    )
    max_size: Size = Field(
        default=None,
        description="How large the cache may grow; the least recently used objects go first.",
        examples=["50 GB"],
    )


# --- datasets -----------------------------------------------------------------------


class Defaults(_Spec):
    """What may be said once for all datasets; a dataset's own key replaces it."""

    owner: str | None = Field(
        default=None, description="Who to ask about it.", examples=["team-sales"]
    )
    tags: Texts = Field(default=(), description="Words to find it by.", examples=[["pii"]])
    exclude: Texts = Field(
        default=(),
        description="Patterns of what a glob matches but must not bring: names or paths.",
        examples=[["*_tmp.parquet"]],
    )
    storage: Name | None = Field(
        default=None, description="One of `storages`: how to reach the source.", examples=["lake"]
    )
    allow_empty: Flag = Field(
        default=False, description="Accept a glob that matches nothing.", examples=[True]
    )
    format: str | None = Field(
        default=None,
        description="What the files are, where their suffix does not tell.",
        examples=["parquet"],
    )
    reader: Annotated[
        str | None, PlainValidator(_check_reader), WithJsonSchema({"type": ["string", "null"]})
    ] = Field(
        default=None,
        description="The function that `catalog.load` calls.",
        examples=["polars.scan_parquet"],
    )
    read_args: Mapping[str, Any] = Field(
        default_factory=dict,
        description="Keyword arguments for the reader.",
        examples=[{"hive_partitioning": True}],
    )
    push: Flag = Field(
        default=False, description="Let `dcl push` replace the source.", examples=[True]
    )
    metadata: Mapping[str, Any] = Field(
        default_factory=dict, description="Anything you like.", examples=[{"ticket": "DATA-12"}]
    )
    on_stale: Literal["warn", "error"] = Field(
        default="warn",
        description="When the source cannot be reached and files are in place: use them, or fail.",
        examples=["error"],
    )
    max_age: Duration = Field(
        default=None,
        description="Trust the last check for this long before asking the source again.",
        examples=["10 minutes"],
    )


class Dataset(DatasetRules, Defaults):
    """One named dataset: where it comes from, at which point in time, and where it lands.

    >>> orders = Dataset(name="orders", source="s3://lake/orders/**/*.parquet")
    >>> orders.sources, orders.is_glob, orders.is_pinned
    (('s3://lake/orders/**/*.parquet',), True, False)
    """

    name: Name
    source: Annotated[
        str | Sequence[str],
        PlainValidator(_check_sources),
        WithJsonSchema(
            {
                "anyOf": [
                    {"type": "string", "minLength": 1},
                    {
                        "type": "array",
                        "items": {"type": "string", "minLength": 1},
                        "minItems": 1,
                    },
                ]
            }
        ),
    ] = Field(
        description="A URI or a path, or a list of them. `*`, `?`, `[…]` and `**` match many.",
        examples=["s3://bucket/orders/**/*.parquet", "reference/countries.csv"],
    )
    description: str | None = Field(
        default=None, description="What it is, in a sentence.", examples=["Orders, one file a day"]
    )
    as_of: PinText = Field(
        default=None,
        description="The source as it was then: a date, an instant with a zone, or a duration.",
        examples=["2024-12-10", "2024-12-10T09:30Z", "7 days", "latest"],
    )
    version_id: OptionalText = Field(
        default=None,
        description="Exactly this version, of a single object; excludes `as_of`.",
        examples=["3/L4kqtJlcpXroDTDmJ+rmSpXd3dIbrHY"],
    )
    checksum: Annotated[
        str | Mapping[str, str] | None,
        PlainValidator(_check_checksum),
        WithJsonSchema(
            {
                "anyOf": [
                    {"type": "string"},
                    {"type": "object", "additionalProperties": {"type": "string"}},
                    {"type": "null"},
                ]
            }
        ),
    ] = Field(
        default=None,
        description="What the bytes must hash to: one for a single object, or one for each path.",
        examples=["sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"],
    )
    path: Annotated[
        str | None,
        PlainValidator(_check_dataset_folder),
        WithJsonSchema({"type": ["string", "null"]}),
    ] = Field(
        default=None,
        description="The folder where it lands, relative to the catalog; else `data/<name>`.",
        examples=["inputs/orders"],
    )

    def with_source(self, source: str | Sequence[str]) -> "Dataset":
        """Return the same with another source, which is valid."""
        return self.model_copy(update={"source": source})

    @model_validator(mode="after")
    def _check(self) -> "Dataset":
        if self.version_id is not None:
            self._check_version_id()
        if isinstance(self.checksum, str) and not self.is_single:
            raise FieldError(
                "one checksum cannot hold for several objects",
                key="checksum",
                hint='write one for each path: `checksum: {"a.csv": "sha256:…"}`',
            )
        if isinstance(self.source, str):
            return self
        schemes = {scheme_of(source) for source in self.source}
        if len(schemes) > 1:
            raise FieldError(
                f"the sources are of different kinds ({', '.join(sorted(schemes))})",
                key="source",
                hint="make one dataset of each kind",
            )
        return self

    def _check_version_id(self) -> None:
        if self.as_of is not None:
            raise FieldError(
                "`version_id` and `as_of` exclude each other",
                key="version_id",
                hint="remove one of them",
            )
        if not self.is_single:
            raise FieldError(
                "`version_id` needs a single object",
                key="version_id",
                hint="use `as_of` for a glob or a list",
            )


class CatalogSpec(_Spec):
    """A whole catalog file, as written (short forms of datasets spelt out)."""

    version: Literal[1] = Field(default=1, description="The version of this format.", examples=[1])
    as_of: PinText = Field(
        default=None,
        description="For every dataset that says nothing itself; there `latest` opts out.",
        examples=["2024-12-10"],
    )
    include: Texts = Field(
        default=(),
        description="Further catalog files, relative to this one.",
        examples=[["shared/common.yaml"]],
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
