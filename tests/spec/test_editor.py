"""Adding a dataset while everything else stays as it was written."""

import os
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datacachalog.errors import (
    CatalogError,
    InvalidCatalogError,
    InvalidValueError,
    UnsupportedSchemeError,
)
from datacachalog.spec.editor import NEW_CATALOG, add_dataset, add_to_file
from datacachalog.spec.yaml import read_yaml

URI = "s3://lake/new/*.csv"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", f"datasets:\n  new: {URI}\n"),
        ("# mine\n", f"# mine\n\ndatasets:\n  new: {URI}\n"),
        ("version: 1", f"version: 1\n\ndatasets:\n  new: {URI}\n"),
        ("version: 1\n...\n", f"version: 1\n\ndatasets:\n  new: {URI}\n...\n"),
        ("datasets:\n", f"datasets:\n  new: {URI}\n"),
        ("datasets:", f"datasets:\n  new: {URI}\n"),
        ("datasets: {}\n", f"datasets:\n  new: {URI}\n"),
        ("datasets:\n  {}\n", f"datasets:\n  new: {URI}\n"),
        ("datasets: null # none yet\n", f"datasets: # none yet\n  new: {URI}\n"),
        ("datasets:\n  # old: x\n\nversion: 1\n",
         f"datasets:\n  # old: x\n  new: {URI}\n\nversion: 1\n"),
        ("datasets:\n  a: x  # first\n\n# next\nversion: 1\n",
         f"datasets:\n  a: x  # first\n  new: {URI}\n\n# next\nversion: 1\n"),
        ("datasets:\n  a: x\n  # b: y\n\nversion: 1\n",
         f"datasets:\n  a: x\n  # b: y\n  new: {URI}\n\nversion: 1\n"),
        ("datasets:\n    a: x\n", f"datasets:\n    a: x\n    new: {URI}\n"),
        ("datasets:\n  a: x", f"datasets:\n  a: x\n  new: {URI}\n"),
        ("datasets:\r\n  a: x\r\n", f"datasets:\r\n  a: x\r\n  new: {URI}\r\n"),
        ("datasets: {a: x}\n", f"datasets: {{a: x, new: {URI}}}\n"),
        ("datasets: {a: x,}\n", f"datasets: {{a: x, new: {URI}}}\n"),
        ("datasets: {\n  a: x # c\n}\n", f"datasets: {{\n  a: x # c\n, new: {URI}}}\n"),
        ("{version: 1}", f"{{version: 1, datasets: {{new: {URI}}}}}"),
        ("{datasets: {}}", f"{{datasets: {{new: {URI}}}}}"),
        ("---\ndatasets:\n  a: x\n...\n", f"---\ndatasets:\n  a: x\n  new: {URI}\n...\n"),
        ("datasets:\n  a: |\n    x\n\n\nversion: 1\n",
         f"datasets:\n  a: |\n    x\n  new: {URI}\n\n\nversion: 1\n"),
        ("datasets:\n  a: |+\n    x\n\nversion: 1\n",
         f"datasets:\n  a: |+\n    x\n\n  new: {URI}\nversion: 1\n"),
        ("datasets:\n  a: {source: x,\n    tags: [b]}\n",
         f"datasets:\n  a: {{source: x,\n    tags: [b]}}\n  new: {URI}\n"),
        ("x-a: {datasets: {}}\ndatasets:\n  a: x\n",
         f"x-a: {{datasets: {{}}}}\ndatasets:\n  a: x\n  new: {URI}\n"),
    ],
)  # fmt: skip
def test_one_entry_is_added_and_nothing_else_changes(before: str, after: str) -> None:
    """The new dataset stands after the others, written as they are."""
    assert add_dataset(before, "new", URI) == after


def test_further_keys_follow_the_files_indentation() -> None:
    """The long form looks like its neighbours."""
    before = "datasets:\n    a:\n        source: x\n"

    assert add_dataset(before, "new", URI, {"storage": "lake", "push": True}) == dedent(f"""\
        datasets:
            a:
                source: x
            new:
                source: {URI}
                storage: lake
                push: true
        """)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", f'[datasets.new]\nsource = "{URI}"\n'),
        ("version = 1\n", f'version = 1\n\n[datasets.new]\nsource = "{URI}"\n'),
        ('[datasets]\na = "x"\n\n[cache]\nlink = "copy"\n',
         f'[datasets]\na = "x"\nnew = "{URI}"\n\n[cache]\nlink = "copy"\n'),
        ('[datasets.a]\nsource = "x"\n',
         f'[datasets.a]\nsource = "x"\n\n[datasets.new]\nsource = "{URI}"\n'),
    ],
)  # fmt: skip
def test_toml_gets_an_entry_or_a_table(before: str, after: str) -> None:
    """As the file has it already."""
    assert add_dataset(before, "new", URI, file="catalog.toml") == after


@given(
    st.text(
        st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="\ufeff\ufffe\uffff"),
        min_size=1,
    )
)
def test_any_key_is_written_so_that_it_reads_back(key: str) -> None:
    """Quotes are put where YAML would read something else."""
    source = f"s3://lake/{key}".replace("::", ":").replace("?versionId=", "")
    read = read_yaml(add_dataset("datasets: {a: x}", "new", source)).value

    assert read == {"datasets": {"a": "x", "new": source}}


def test_a_name_that_is_taken_is_refused() -> None:
    """The error says where the other one is."""
    with pytest.raises(InvalidValueError) as caught:
        add_dataset("datasets:\n  a: x\n", "a", URI)

    assert caught.value.message == "there is a dataset 'a' already, in catalog.yaml:2"
    assert caught.value.hint == "choose another name, or edit it there"


def test_a_bad_name_or_source_is_refused() -> None:
    """Nothing is written that would not load."""
    with pytest.raises(InvalidValueError, match="is not a name"):
        add_dataset("", "a b", URI)
    with pytest.raises(InvalidValueError, match="keys that begin with `x-` are free"):
        add_dataset("", "x-rays", URI)
    with pytest.raises(UnsupportedSchemeError):
        add_dataset("", "a", "gs://lake/x")


@pytest.mark.parametrize("before", ["datasets: [a]", "- a", "a: [", "a: 1\na: 2"])
def test_a_broken_catalog_is_not_edited(before: str) -> None:
    """First it must be repaired."""
    with pytest.raises(InvalidCatalogError):
        add_dataset(before, "new", URI)


def test_what_cannot_be_edited_safely_is_left_to_the_user() -> None:
    """An entry that would appear in two places is not made."""
    with pytest.raises(CatalogError) as caught:
        add_dataset("datasets: &d\n  a: x\nx-copy: *d\n", "new", URI)

    assert caught.value.hint == f"add it by hand: `new: {URI}`"


def test_a_new_catalog_takes_its_first_datasets() -> None:
    """`dcl init`, then `dcl add`, twice."""
    text = add_dataset(add_dataset(NEW_CATALOG, "a", "s3://l/a"), "b", "s3://l/b")

    assert read_yaml(text).value == {
        "version": 1,
        "datasets": {"a": "s3://l/a", "b": "s3://l/b"},
    }
    assert set(NEW_CATALOG.split("\n")) <= set(text.split("\n"))


def test_a_file_is_replaced_with_its_mode_and_marks(tmp_path: Path) -> None:
    """A byte order mark and permissions stay, and no temporary file does."""
    path = tmp_path / "catalog.yaml"
    path.write_bytes(b"\xef\xbb\xbfversion: 1\r\n")
    path.chmod(0o640)

    add_to_file(path, "new", URI)

    assert path.read_bytes() == (
        b"\xef\xbb\xbfversion: 1\r\n\r\ndatasets:\r\n  new: " + URI.encode() + b"\r\n"
    )
    assert path.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["catalog.yaml"]


def test_a_file_that_is_a_link_stays_one(tmp_path: Path) -> None:
    """What the link points to is edited."""
    real = tmp_path / "real.yaml"
    real.write_text("version: 1\n")
    link = tmp_path / "catalog.yaml"
    link.symlink_to(real)

    add_to_file(link, "new", URI)

    assert link.is_symlink()
    assert f"new: {URI}" in real.read_text()
