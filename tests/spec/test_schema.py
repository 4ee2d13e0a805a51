"""The schema for editors: current, correct, and as strict as the loader."""

import json
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest
from pydantic import BaseModel

from datacachalog.spec.editor import NEW_CATALOG
from datacachalog.spec.loader import load
from datacachalog.spec.models import (
    CacheSettings,
    CatalogSpec,
    Dataset,
    DataSettings,
    Defaults,
    StorageSettings,
)
from datacachalog.spec.schema import catalog_schema, schema_text
from datacachalog.spec.yaml import Table, read_yaml

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    """Give a validator of the generated schema, which is a valid schema itself."""
    jsonschema.Draft202012Validator.check_schema(catalog_schema())
    return jsonschema.Draft202012Validator(catalog_schema())


def test_the_published_schema_is_current() -> None:
    """`dcl schema > schemas/catalog.schema.json` after a change of the models."""
    published = (ROOT / "schemas" / "catalog.schema.json").read_text("utf-8")

    assert published == schema_text()


@pytest.mark.parametrize(
    "text",
    [
        pytest.param((ROOT / "catalog.example.yaml").read_text("utf-8"), id="example"),
        pytest.param(NEW_CATALOG, id="new"),
        "datasets: {x: s3://l/x}",
        "datasets: {x: {source: [s3://l/x, in/y]}}",
        "datasets: {x: {source: s3://l/x, x-mine: [1]}, x-more: 3}\nx-top: {a: b}",
        "storages: {lab: {anon: '${ANON}', verify: '${V:-true}', key: '${K}', secret: '${S}'}}",
        "storages: {lab: null, x-lab: 3}",
        "cache: {link: '${LINK:-auto}', max_size: '${SIZE}'}",
        "cache: {max_size: 1000000}",
        "as_of: 2024",
        "as_of: latest\ndata:\ndefaults:\ndatasets:\n",
        "datasets: {x: {source: a, checksum: null, path: null, tags: null, format: null}}",
        "datasets: {x: {source: a, checksum: {b: 'md5:00'}, exclude: '*.tmp', push: '${P}'}}",
    ],
)
def test_the_schema_accepts_what_may_be_written(
    validator: jsonschema.Draft202012Validator, text: str
) -> None:
    """Short forms, references, nulls and free keys are no mistakes."""
    assert list(validator.iter_errors(read_yaml(text).value)) == []


@pytest.mark.parametrize(
    "text",
    [
        "datsets: {}",
        "version: 2",
        "datasets: {x: {sorce: s3://l/x}}",
        "datasets: {x: {}}",
        "datasets: {x: 3}",
        "datasets: {'my data': s3://l/x}",
        "datasets: {x: {source: s3://l/x, name: x}}",
        "datasets: {x: {source: s3://l/x, push: 'no'}}",
        "datasets: {x: {source: []}}",
        "storages: {lab: {secret: hush}}",
        "storages: {lab: {addressing_style: host}}",
        "cache: {link: symlink}",
        "defaults: {source: s3://l/x}",
        "defaults: {max_age: 600}",
    ],
)
def test_the_schema_refuses_what_the_loader_refuses(
    validator: jsonschema.Draft202012Validator, text: str, tmp_path: Path
) -> None:
    """An editor marks it before `dcl` has to."""
    catalog = tmp_path / "catalog.yaml"
    catalog.write_text(text)

    assert not validator.is_valid(read_yaml(text).value)
    with pytest.raises(ValueError, match=r"catalog\.yaml"):
        load(catalog, environ={})


MODELS = (CatalogSpec, DataSettings, CacheSettings, StorageSettings, Defaults, Dataset)


@pytest.mark.parametrize("model", MODELS)
def test_every_key_is_described_with_an_example(model: type[BaseModel]) -> None:
    """What an editor shows at a key teaches it."""
    for key, field in model.model_fields.items():
        if key == "name":
            continue
        about = field.description or ""
        is_section = isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)

        assert about[:1].isupper() or about.startswith("`"), key
        assert about.endswith((".", "….")), key
        assert field.examples or is_section, key


def keys_of(value: object) -> Iterator[str]:
    """Yield every key anywhere in a document."""
    if isinstance(value, Table):
        for key, item in value.items():
            yield key
            yield from keys_of(item)


def test_the_example_shows_every_key() -> None:
    """Nothing can be written that the example does not teach."""
    shown = set(keys_of(read_yaml((ROOT / "catalog.example.yaml").read_text("utf-8")).value))
    known = {key for model in MODELS for key in model.model_fields} - {"name"}

    assert known - shown == set()


def test_the_example_comments_every_line_of_settings() -> None:
    """Above the datasets, each line with a value says what it does."""
    text = (ROOT / "catalog.example.yaml").read_text("utf-8")
    head = text.partition("\ndatasets:")[0].split("\n")
    silent = [line for line in head if ": " in line and "#" not in line]

    assert silent == []


@pytest.mark.parametrize("name", ["example", "new"])
def test_what_we_publish_is_valid(name: str, tmp_path: Path) -> None:
    """The example and a new catalog load without an environment."""
    text = NEW_CATALOG if name == "new" else (ROOT / "catalog.example.yaml").read_text("utf-8")
    path = tmp_path / "catalog.yaml"
    path.write_text(text)

    assert load(path, environ={}).root == tmp_path


def test_the_new_catalogs_comments_are_valid_too(tmp_path: Path) -> None:
    """Whoever takes the `#` away in the template gets a catalog that loads."""
    lines = [
        line.replace("# ", "", 1) if line.lstrip("# ").partition(":")[0].isidentifier() else line
        for line in NEW_CATALOG.split("\n")
    ]
    path = tmp_path / "catalog.yaml"
    path.write_text("\n".join(lines))
    catalog = load(path, environ={"LAB_KEY": "k", "LAB_SECRET": "s"})

    assert list(catalog.datasets) == ["customers", "orders"]
    assert list(catalog.storages) == ["lake", "lab"]


def test_the_schema_needs_no_network() -> None:
    """References stay inside the file."""
    references = {line.strip() for line in schema_text().split("\n") if '"$ref"' in line}

    assert all('"#/$defs/' in line for line in references)
    assert json.loads(schema_text())["$schema"].endswith("draft/2020-12/schema")
