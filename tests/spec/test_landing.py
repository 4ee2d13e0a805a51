"""Where datasets land, and what they claim."""

import pytest

from datacachalog.spec.landing import claim, landing
from datacachalog.spec.models import Dataset, DataSettings, FieldError


@pytest.mark.parametrize(
    ("keys", "layout", "folder"),
    [
        ({"source": "s3://l/a/b.csv"}, "name", "data/x"),
        ({"source": "s3://l/a/b.csv"}, "source", "data/a"),
        ({"source": "s3://l/b.csv"}, "source", "data"),
        ({"source": "s3://l/a/**/*.csv"}, "source", "data/a"),
        ({"source": "s3://l/a/b.csv", "path": "in//./y/"}, "source", "in/y"),
        ({"source": "in/b.csv"}, "source", "data/x"),
        ({"source": ["s3://l/a/b.csv", "s3://l/a/c.csv"]}, "source", "data/a"),
    ],
)
def test_a_dataset_lands_by_path_layout_or_name(
    keys: dict[str, object], layout: str, folder: str
) -> None:
    """`path` decides, then the layout."""
    dataset = Dataset.model_validate({"name": "x", **keys})
    data = DataSettings.model_validate({"layout": layout})

    assert landing(dataset, data) == folder


@pytest.mark.parametrize(
    "source", ["s3://l/../b.csv", "s3://l/a//b.csv", ["s3://l/a/x", "s3://l/b/x"]], ids=str
)
def test_what_cannot_be_mirrored_asks_for_a_path(source: str | list[str]) -> None:
    """A key that is no path, or several folders, have no folder to mirror."""
    dataset = Dataset(name="x", source=source)

    with pytest.raises(FieldError, match="cannot mirror the sources of 'x'") as caught:
        landing(dataset, DataSettings(layout="source"))

    assert caught.value.hint == "add `path: data/x`"


def test_a_single_object_claims_its_file_only() -> None:
    """Others may land beside it."""
    single = Dataset(name="x", source="s3://l/a/odd[[]1].csv")
    many = Dataset(name="x", source="s3://l/a/*.csv")
    data = DataSettings(layout="source")

    assert claim(single, data) == "data/a/odd[1].csv"
    assert claim(many, data) == "data/a"
