"""A loaded catalog as plain values of JSON, and brought back without what reads catalogs.

Loading YAML, checking it and making models takes longer than a sync with nothing to do. What
is brought back answers as the models of `spec` do, as far as a sync asks; it is not checked
again, so it must come from where nobody else writes (see `snapshot`). Used by the command
line.
"""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from datacachalog.dataset import DatasetRules
from datacachalog.model import EPOCH, MICROSECOND, Ago, AsOf, Latest

if TYPE_CHECKING:
    from datacachalog.loader import LoadedCatalog
    from datacachalog.spec import CacheSettings, Dataset, DataSettings, StorageSettings

SECRETS = ("key", "secret", "token")
"""Settings that are never written down: a catalog with one of them is not kept."""


class KeptCatalog(NamedTuple):
    """What a catalog is made from, as `loader.LoadedCatalog` has it."""

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

    def with_resolved_paths(self, root: Path) -> "KeptDataset":  # noqa: ARG002 - the model's
        """Return the same: they were resolved before they were kept."""
        return self


def encode(loaded: "LoadedCatalog") -> Any | None:
    """Return the catalog as values of JSON, or None if it holds what is not to be written down.

    That is a secret, or a value that JSON does not have, such as a date in `metadata`.
    """
    if any(getattr(settings, key) for settings in loaded.storages.values() for key in SECRETS):
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
    values = {name: getattr(model, name) for name in type(model).model_fields if name != "name"}
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
