"""A loaded catalog as plain values of JSON, and brought back without what reads catalogs.

Loading YAML, checking it and making models takes longer than a sync with nothing to do. What
is brought back answers as the models of `spec` do, as far as a sync asks; it is not checked
again, so it must come from where nobody else writes (see `snapshot`). Used by the command
line.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

from datacachalog.errors import InvalidPinError, InvalidValueError, UnsupportedSchemeError
from datacachalog.model import EPOCH, MICROSECOND, Ago, AsOf, Latest
from datacachalog.spec.landing import SECRETS, DatasetRules, check_name
from datacachalog.spec.units import parse_pin
from datacachalog.uri import check_source

if TYPE_CHECKING:
    from datacachalog.spec.models import CacheSettings, Dataset, DataSettings, StorageSettings


class Loaded(Protocol):
    """What a catalog is made from, as loading gives it: `loader.LoadedCatalog`."""

    @property
    def path(self) -> Path:
        """Return the catalog's file."""
        ...

    @property
    def root(self) -> Path:
        """Return the project's folder."""
        ...

    @property
    def name(self) -> str:
        """Return the catalog's name."""
        ...

    @property
    def datasets(self) -> "Mapping[str, Dataset]":
        """Return the datasets by name, their local sources resolved."""
        ...

    @property
    def storages(self) -> "Mapping[str, StorageSettings]":
        """Return the settings of storages by name."""
        ...

    @property
    def data(self) -> "DataSettings":
        """Return where datasets land."""
        ...

    @property
    def cache(self) -> "CacheSettings":
        """Return how the cache is kept."""
        ...


class KeptCatalog(NamedTuple):
    """What was brought back of a catalog."""

    path: Path
    root: Path
    name: str
    datasets: "Mapping[str, Dataset]"
    storages: "Mapping[str, StorageSettings]"
    data: "DataSettings"
    cache: "CacheSettings"


class _Kept:
    """The fields of a model: what was kept, and the model's defaults for all else."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self.__dict__.update(fields)


class KeptData(_Kept):
    """Answers as `spec.DataSettings`."""

    dir = "data"
    layout = "name"


class KeptCache(_Kept):
    """Answers as `spec.CacheSettings`."""

    dir = None
    link = "auto"
    max_size = None


class KeptStorage(_Kept):
    """Answers as `spec.StorageSettings`."""

    profile = None
    anon = False
    endpoint_url = None
    region = None
    key = None
    secret = None
    token = None
    sse_customer_key = None
    engine = "auto"
    requester_pays = False
    addressing_style = "auto"
    ca_bundle = None
    verify = True


class KeptDataset(_Kept, DatasetRules):
    """Answers as `spec.Dataset`, its local sources resolved."""

    owner = None
    tags = ()
    exclude = ()
    storage = None
    allow_empty = False
    format = None
    reader = None
    read_args: Mapping[str, Any] = {}
    push = False
    metadata: Mapping[str, Any] = {}
    on_stale = "warn"
    max_age = None
    description = None
    as_of = None
    version_id = None
    checksum = None
    path = None

    def with_source(self, source: str | Sequence[str]) -> "KeptDataset":
        """Return the same with another source, which is valid."""
        return KeptDataset({**vars(self), "source": source})


def plain_dataset(name: str, fields: Mapping[str, object]) -> "Dataset | None":
    """Return a dataset of which little is said, or None where only the model can tell.

    Plain is a source that is one text, with words about it and a time. The rules are the
    model's own; what breaks them is left to it, to be told well.
    """
    if not fields.keys() <= _PLAIN or not all(type(each) is str for each in fields.values()):
        return None
    try:
        found: dict[str, object] = {**fields, "name": check_name(name)}
        found["source"] = check_source(fields["source"])
        if "as_of" in fields:
            found["as_of"] = parse_pin(str(fields["as_of"]))
    except (KeyError, InvalidPinError, InvalidValueError, UnsupportedSchemeError):
        return None
    return cast("Dataset", KeptDataset(found))


_PLAIN = {"source", "as_of", "description", "owner"}


def encode(loaded: Loaded, *, has_variables: bool = False) -> Any | None:
    """Return the catalog as values of JSON, or None if it holds what is not to be written down.

    That is a secret, what might be one (an endpoint's user; what a variable says in
    `read_args` or `metadata`), or a value that JSON does not have, such as infinity.
    """
    if any(_has_secrets(settings) for settings in loaded.storages.values()):
        return None
    if has_variables and any(each.read_args or each.metadata for each in loaded.datasets.values()):
        return None
    datasets = {name: _fields(KeptDataset, each) for name, each in loaded.datasets.items()}
    storages = {name: _fields(KeptStorage, each) for name, each in loaded.storages.items()}
    value = {
        "path": str(loaded.path),
        "root": str(loaded.root),
        "name": loaded.name,
        "datasets": datasets,
        "storages": storages,
        "data": _fields(KeptData, loaded.data),
        "cache": _fields(KeptCache, loaded.cache),
    }
    return value if _is_plain(value) else None


def _has_secrets(settings: "StorageSettings") -> bool:
    return "@" in (settings.endpoint_url or "") or any(getattr(settings, key) for key in SECRETS)


def decode(value: Any) -> KeptCatalog:
    """Return what `encode` made a value of."""
    datasets = {name: _dataset(name, fields) for name, fields in value["datasets"].items()}
    storages = {name: KeptStorage(fields) for name, fields in value["storages"].items()}
    return KeptCatalog(
        path=Path(value["path"]),
        root=Path(value["root"]),
        name=value["name"],
        datasets=cast("Mapping[str, Dataset]", datasets),
        storages=cast("Mapping[str, StorageSettings]", {"": KeptStorage({}), **storages}),
        data=cast("DataSettings", KeptData(value["data"])),
        cache=cast("CacheSettings", KeptCache(value["cache"])),
    )


def _fields(kind: type[_Kept], model: Any) -> dict[str, Any]:
    """Return the fields of a model that are not its defaults."""
    names = vars(model) if isinstance(model, _Kept) else type(model).model_fields
    values = {name: getattr(model, name) for name in names if name != "name"}
    return {
        name: _to_json(value)
        for name, value in values.items()
        if not hasattr(kind, name) or value != getattr(kind, name)
    }


def _to_json(value: object) -> object:
    match value:
        case AsOf(at, text):
            return {"as_of": (at - EPOCH) // MICROSECOND, "text": text}
        case Ago(delta, text):
            return {"ago": delta // MICROSECOND, "text": text}
        case Latest():
            return {"latest": True}
        case timedelta():
            return value // MICROSECOND
        case tuple():
            return list(value)
        case Mapping():
            return dict(value)
        case _:
            return value


def _dataset(name: str, fields: dict[str, Any]) -> KeptDataset:
    dataset = KeptDataset(fields)
    found: dict[str, Any] = {"name": name}
    for key in ("source", "tags", "exclude"):
        if isinstance(fields.get(key), list):
            found[key] = tuple(fields[key])
    if "max_age" in fields:
        found["max_age"] = fields["max_age"] * MICROSECOND
    if "as_of" in fields:
        found["as_of"] = _pin(fields["as_of"])
    dataset.__dict__.update(found)
    return dataset


def _pin(value: Mapping[str, Any]) -> Latest | AsOf | Ago:
    if "as_of" in value:
        return AsOf(EPOCH + value["as_of"] * MICROSECOND, value["text"])
    return Ago(value["ago"] * MICROSECOND, value["text"]) if "ago" in value else Latest()


def _is_plain(value: object) -> bool:
    """Tell whether JSON gives the value back as it is."""
    match value:
        case dict():
            return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
        case list():
            return all(map(_is_plain, value))
        case float():
            return value - value == 0  # neither infinite nor no number
        case _:
            return value is None or type(value) in (str, int, bool)
