"""A catalog that is brought back answers as the one that was kept, whatever is asked of it."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticUndefined

from datacachalog import kept
from datacachalog.errors import DatacachalogError
from datacachalog.kept import (
    KeptCache,
    KeptCatalog,
    KeptData,
    KeptDataset,
    KeptStorage,
    plain_dataset,
)
from datacachalog.snapshot import Reading
from datacachalog.spec.landing import CATALOG_KEYS, claim, landing
from datacachalog.spec.loader import LoadedCatalog, load
from datacachalog.spec.models import (
    CacheSettings,
    CatalogSpec,
    Dataset,
    DataSettings,
    StorageSettings,
)

TWINS: list[tuple[type, type[BaseModel]]] = [
    (KeptCache, CacheSettings),
    (KeptData, DataSettings),
    (KeptDataset, Dataset),
    (KeptStorage, StorageSettings),
]
FULL = """
as_of: 2024-12-10
include: [more.yaml]
data: {dir: in/put, layout: source}
cache: {dir: "~/cache", link: copy, max_size: 5 GB}
storages:
  lab: {endpoint_url: "${LAB:-http://localhost:9000}", anon: true, region: eu-north-1}
  lake: {profile: p, requester_pays: true, addressing_style: path, ca_bundle: ca.pem, verify: false}
defaults: {storage: lake, on_stale: error, max_age: 90 minutes, tags: [a, "\u00f6"]}
datasets:
  short: s3://lake/short.csv
  local: {source: raw/x.csv, as_of: latest, path: elsewhere}
  long:
    source: [s3://lake/a/*.csv, "s3://lake/a/[0-9]/**"]
    exclude: ["*_tmp", "b/"]
    description: All of it
    owner: team
    as_of: 7 days
    allow_empty: true
    format: csv
    reader: polars.read_csv
    read_args: {columns: [1, 2.5, null, {x: true}]}
    push: true
    metadata: {ticket: "DATA-12", nested: {n: 1}}
  instant: {source: s3://lake/i.csv, as_of: "2026-03-01T09:30:05.123456Z"}
  version: {source: s3://lake/v.csv, version_id: "3/L4"}
  sums: {source: "s3://lake/s/*", checksum: {a.csv: "md5:d41d8cd98f00b204e9800998ecf8427e"}}
  sum:
    source: s3://lake/t.csv
    storage: lab
    checksum: SHA-1:A9993E364706816ABA3E25717850C26C9CD0D89D
"""


def loaded(folder: Path, text: str, name: str = "catalog.yaml") -> LoadedCatalog:
    """Return the catalog that `text` is."""
    (folder / name).write_text(text)
    (folder / "more.yaml").write_text("as_of: 2024-12-10\ndatasets: {more: s3://lake/m/*}\n")
    return load(folder / name, environ={})


def again(catalog: LoadedCatalog) -> KeptCatalog:
    """Return the catalog after it was written down and read."""
    value = kept.encode(catalog)
    assert value is not None
    return kept.decode(json.loads(json.dumps(value)))


@pytest.mark.parametrize(("twin", "model"), TWINS, ids=lambda each: each.__name__)
def test_each_model_has_its_defaults_here(twin: type, model: type[BaseModel]) -> None:
    """A field that is added to a model is missed here, not in a sync."""
    fields = {
        name: field.get_default(call_default_factory=True)
        for name, field in model.model_fields.items()
    }

    assert {n: getattr(twin, n, PydanticUndefined) for n in fields} == fields


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"source": "s3://lake/a/"}, id="folder"),
        pytest.param({"source": "S3://lake/[ab]*.csv", "owner": "me"}, id="glob"),
        pytest.param({"source": "raw/x.csv", "description": "no", "as_of": "latest"}, id="local"),
        pytest.param({"source": "~/x.csv", "as_of": "7 days"}, id="home"),
        pytest.param({"source": "file:///x/../y"}, id="dots"),
        pytest.param({"source": "s3://lake/x", "as_of": "2024-12-10"}, id="date"),
    ],
)
def test_a_plain_dataset_is_what_the_model_makes_of_it(fields: dict[str, object]) -> None:
    """Field by field, before and after its local source is resolved."""
    plain, model = plain_dataset("x", fields), Dataset.model_validate({**fields, "name": "x"})
    assert plain is not None
    root = Path("/some/[odd] folder")

    assert _fields(Dataset, plain) == _fields(Dataset, model)
    assert plain.with_resolved_paths(root).source == model.with_resolved_paths(root).source
    assert str(plain.pin) == str(model.pin)


@given(source=st.text(max_size=30) | st.sampled_from(["s3://b/k", "s3://b", "ftp://x/y", "a::b"]))
def test_a_source_is_plain_only_if_the_model_takes_it(source: str) -> None:
    """And as it takes it: the rules are the same."""
    plain = plain_dataset("x", {"source": source})
    try:
        model = Dataset.model_validate({"name": "x", "source": source})
    except (ValidationError, DatacachalogError):
        assert plain is None
    else:
        assert plain is not None
        assert plain.source == model.source


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        pytest.param("-x", {"source": "a.csv"}, id="name"),
        pytest.param("x", {}, id="no-source"),
        pytest.param("x", {"source": ["a.csv"]}, id="list"),
        pytest.param("x", {"source": "a.csv", "push": True}, id="another-key"),
        pytest.param("x", {"source": "a.csv", "x-mine": "1"}, id="free-key"),
        pytest.param("x", {"source": "a.csv", "owner": 7}, id="no-text"),
        pytest.param("x", {"source": "a.csv", "as_of": "yesterdayish"}, id="time"),
        pytest.param("x", {"source": "s4://a/b"}, id="scheme"),
    ],
)
def test_all_else_is_the_model_s(name: str, fields: dict[str, object]) -> None:
    """Also what is wrong: it says what."""
    assert plain_dataset(name, fields) is None


def test_the_keys_of_a_catalog_are_known_without_its_model() -> None:
    """For telling unknown ones."""
    assert list(CATALOG_KEYS) == list(CatalogSpec.model_fields)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(FULL, id="full"),
        pytest.param("as_of: 2024-12-10\ndatasets: {a: x.csv, b: {source: s3://l/b/}}", id="plain"),
        pytest.param("datasets: {a: x.csv, b: {source: x, tags: [t]}}", id="both"),
        pytest.param("data: {dir: in}\ndatasets: {a: x.csv}", id="settings"),
    ],
)
def test_without_models_a_catalog_is_the_same(tmp_path: Path, text: str) -> None:
    """Whether parts of it come as models or as their likes."""
    before = loaded(tmp_path, text)
    after = load(before.path, environ={}, needs_models=False)

    assert kept.encode(after) == kept.encode(before)


def test_whoever_needs_models_gets_them(tmp_path: Path) -> None:
    """Programs see the public classes, whatever is said of a dataset."""
    catalog = loaded(tmp_path, "datasets: {a: x.csv}")
    parts = catalog.datasets["a"], catalog.data, catalog.cache

    assert [type(part) for part in parts] == [Dataset, DataSettings, CacheSettings]


def _fields(model: type[BaseModel], value: object) -> dict[str, Any]:
    return {name: getattr(value, name) for name in model.model_fields}


def test_all_that_a_catalog_says_comes_back(tmp_path: Path) -> None:
    """Every field of every part, and where the catalog lies."""
    before = loaded(tmp_path, FULL)
    after = again(before)

    assert (after.path, after.root, after.name) == (before.path, before.root, before.name)
    assert list(after.datasets) == list(before.datasets)
    for name, dataset in before.datasets.items():
        assert _fields(Dataset, after.datasets[name]) == _fields(Dataset, dataset)
    assert {**after.storages}.pop("").anon is False
    for name, settings in before.storages.items():
        assert _fields(StorageSettings, after.storages[name]) == _fields(StorageSettings, settings)
    assert _fields(DataSettings, after.data) == _fields(DataSettings, before.data)
    assert _fields(CacheSettings, after.cache) == _fields(CacheSettings, before.cache)


@pytest.mark.parametrize(
    "name", ["short", "local", "long", "instant", "version", "sums", "sum", "more"]
)
def test_all_that_follows_follows(tmp_path: Path, name: str) -> None:
    """Pins with the words they were written in, checksums, folders."""
    before = loaded(tmp_path, FULL)
    after = again(before)
    one, two = before.datasets[name], after.datasets[name]

    assert (two.sources, two.pin, str(two.pin)) == (one.sources, one.pin, str(one.pin))
    assert (two.is_glob, two.is_single, two.is_pinned) == (
        one.is_glob,
        one.is_single,
        one.is_pinned,
    )
    assert two.checksum_of("a.csv") == one.checksum_of("a.csv")
    assert (
        two.with_resolved_paths(Path("/x")).sources == one.with_resolved_paths(Path("/x")).sources
    )
    assert landing(two, after.data) == landing(one, before.data)
    assert claim(two, after.data) == claim(one, before.data)


def test_an_empty_catalog_comes_back(tmp_path: Path) -> None:
    """Everything at its default."""
    after = again(loaded(tmp_path, "datasets: {}\n"))

    assert (dict(after.datasets), after.data.dir, after.cache.link) == ({}, "data", "auto")


@pytest.mark.parametrize("secret", ['key: "${K}", secret: "${S}"', 'token: "${T}"'])
def test_secrets_are_not_written_down(tmp_path: Path, secret: str) -> None:
    """Such a catalog is read each time."""
    (tmp_path / "catalog.yaml").write_text(f"storages: {{lab: {{{secret}}}}}\ndatasets: {{}}\n")
    environ = {"K": "AKIA", "S": "hush", "T": "hush"}
    catalog = load(tmp_path / "catalog.yaml", environ=environ)

    assert kept.encode(catalog) is None


@pytest.mark.parametrize(
    ("text", "is_kept"),
    [
        pytest.param('datasets: {x: {source: "s3://l/${V}", owner: "${V}"}}', True, id="source"),
        pytest.param('datasets: {x: {source: a, read_args: {p: "${V}"}}}', False, id="read-args"),
        pytest.param('datasets: {x: {source: a, metadata: {p: "${V}"}}}', False, id="metadata"),
        pytest.param("datasets: {x: {source: a, read_args: {p: 1}}}", True, id="no-variable"),
        pytest.param(
            'storages: {l: {endpoint_url: "http://u:p@h"}}\ndatasets: {x: a}', False, id="user"
        ),
    ],
)
def test_nor_is_what_may_be_one(tmp_path: Path, text: str, is_kept: bool) -> None:
    """What a variable says is written down only where secrets have no business."""
    (tmp_path / "catalog.yaml").write_text(text)
    reading = Reading({"V": "hush"})
    catalog = load(tmp_path / "catalog.yaml", environ=reading.environ, read=reading.read)
    value = kept.encode(catalog, has_variables=reading.has_variables)

    assert (value is not None) is is_kept


@pytest.mark.parametrize("value", ["nan", "-inf"])
def test_what_json_does_not_have_is_not_written_down(tmp_path: Path, value: str) -> None:
    """Better read again than brought back as something else."""
    text = f'[datasets.x]\nsource = "s3://l/x"\n[datasets.x.metadata]\nvalue = {value}\n'
    (tmp_path / "catalog.toml").write_text(text)

    assert kept.encode(load(tmp_path / "catalog.toml", environ={})) is None
