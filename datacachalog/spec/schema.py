"""The JSON schema of a catalog file, from which editors teach the format.

Generated from the models of `spec`; the copy in `schemas/` is compared by a test. It accepts
what the loader accepts before `${VAR}` is replaced, and the short form of a dataset.
"""

import json
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from datacachalog.spec.models import NAME_PATTERN, SECRETS, CatalogSpec

_REFERENCE = {"type": "string", "pattern": r"\$\{"}
_FREE_KEYS = {"^x-": {"description": "Free: ignored by `dcl`."}}
_SHORT_FORM = {
    "type": "string",
    "minLength": 1,
    "description": "The short form: a URI, or a path relative to this file.",
    "examples": ["s3://bucket/customers.parquet"],
}


def catalog_schema() -> dict[str, Any]:
    """Return the schema (draft 2020-12) of `catalog.yaml` and `catalog.toml`."""
    generated = CatalogSpec.model_json_schema(schema_generator=_Generator)
    definitions = {name: _as_written(part) for name, part in generated.pop("$defs").items()}
    _without_name(definitions["Dataset"])
    for key in SECRETS:
        # So that an editor marks a key that is written out.
        definitions["StorageSettings"]["properties"][key]["anyOf"][0] |= _REFERENCE
    top = _as_written(generated)
    properties = top["properties"]
    properties["datasets"] |= _named({"anyOf": [_SHORT_FORM, {"$ref": "#/$defs/Dataset"}]})
    properties["storages"] |= _named(
        {"anyOf": [{"$ref": "#/$defs/StorageSettings"}, {"type": "null"}]}
    )
    for key in ("data", "cache", "defaults", "datasets", "storages"):
        properties[key] = _or_null(properties[key])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "catalog.schema.json",
        **top,
        "title": "datacachalog catalog",
        "description": "Named datasets in object storage, for `dcl`.",
        "$defs": definitions,
    }


def schema_text() -> str:
    """Return the schema as the text of a file."""
    return json.dumps(catalog_schema(), indent=2, ensure_ascii=False) + "\n"


class _Generator(GenerateJsonSchema):
    """Leaves out the titles that pydantic makes up for each field."""

    def field_title_should_be_set(self, schema: object) -> bool:  # noqa: ARG002  # it must be named so
        return False


def _as_written(model: dict[str, Any]) -> dict[str, Any]:
    """Return a model's schema with free `x-*` keys and `${VAR}` where a value is no text."""
    model["patternProperties"] = _FREE_KEYS
    model["description"] = " ".join(model.get("description", "").split("\n\n")[0].split())
    for key, field in model["properties"].items():
        model["properties"][key] = _or_reference(_or_null(field))
    return model


def _or_reference(field: dict[str, Any]) -> dict[str, Any]:
    """Let a flag or a choice also be a text with `${VAR}`."""
    kinds = field.get("anyOf", [field])
    if not any("enum" in kind or kind.get("type") == "boolean" for kind in kinds):
        return field
    about = _about(field)
    kinds = [{k: v for k, v in kind.items() if k not in about} for kind in kinds]
    return {**about, "anyOf": [*kinds, _REFERENCE]}


def _or_null(field: dict[str, Any]) -> dict[str, Any]:
    """Let an optional field also be null, which means that it is not given."""
    if "default" not in field and "$ref" not in field and "additionalProperties" not in field:
        return field
    about = _about(field)
    rest = {k: v for k, v in field.items() if k not in about}
    if rest.get("type") == "object" or "$ref" in rest or "enum" in rest or "const" in rest:
        return {**about, "anyOf": [rest, {"type": "null"}]}
    kinds = rest.get("anyOf", [rest])
    if any("null" in str(kind.get("type")) for kind in kinds):
        return field
    return {**about, "anyOf": [*kinds, {"type": "null"}]}


def _about(field: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in field.items() if k in ("description", "examples", "default")}


def _named(entry: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "patternProperties": {f"^(?!x-){NAME_PATTERN[1:]}": entry, **_FREE_KEYS},
        "additionalProperties": False,
    }


def _without_name(dataset: dict[str, Any]) -> None:
    """Take the name out of a dataset: the key above it is its name."""
    del dataset["properties"]["name"]
    dataset["required"] = [key for key in dataset["required"] if key != "name"]
