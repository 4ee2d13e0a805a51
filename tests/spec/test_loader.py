"""A catalog file, as written, to validated values or to all its problems."""

import json
import os
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from datacachalog.errors import CatalogNotFoundError, InvalidCatalogError, Problem
from datacachalog.model import Ago, AsOf, Latest, VersionId
from datacachalog.spec.landing import landing
from datacachalog.spec.loader import LoadedCatalog, load
from datacachalog.spec.models import (
    CacheSettings,
    CatalogSpec,
    Dataset,
    DataSettings,
    StorageSettings,
)


class Project:
    """A folder with catalog files; problems are asked relative to it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, text: str, name: str = "catalog.yaml") -> Path:
        """Write a file of the project."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text))
        return path

    def load(self, text: str, name: str = "catalog.yaml", **environ: str) -> LoadedCatalog:
        """Load a catalog from text and an environment."""
        return load(self.write(text, name), environ=environ)

    def problems(
        self, text: str, name: str = "catalog.yaml", **environ: str
    ) -> list[tuple[str, str | None]]:
        """Return each problem as a user sees it, with its hint."""
        with pytest.raises(InvalidCatalogError) as caught:
            self.load(text, name, **environ)
        return [(str(problem), problem.hint) for problem in caught.value.problems]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Give an empty project that is the current folder."""
    monkeypatch.chdir(tmp_path)
    return Project(tmp_path)


# --- what is read -------------------------------------------------------------------


def test_the_short_form_is_a_source(project: Project) -> None:
    """`name: uri` is a whole dataset."""
    catalog = project.load("datasets: {customers: s3://lake/c.parquet}")

    assert catalog.datasets["customers"].source == "s3://lake/c.parquet"
    assert catalog.declared == {"customers": "catalog.yaml:1"}
    assert (catalog.name, catalog.root) == ("catalog", project.root)


def test_defaults_lie_under_each_dataset(project: Project) -> None:
    """A dataset's own key replaces the default, and null takes it away."""
    catalog = project.load("""\
        storages: {lake: {region: eu-west-1}}
        defaults: {storage: lake, tags: [a], allow_empty: true}
        datasets:
          x: s3://l/x
          y: {source: s3://l/y, tags: [b], storage: null}
    """)
    x, y = catalog.datasets["x"], catalog.datasets["y"]

    assert (x.storage, x.tags, x.allow_empty) == ("lake", ("a",), True)
    assert (y.storage, y.tags, y.allow_empty) == (None, ("b",), True)


def test_the_catalogs_as_of_holds_for_those_that_say_nothing(project: Project) -> None:
    """A pin of its own, a version, or `latest` stands above it."""
    catalog = project.load("""\
        as_of: 2024-12-10
        datasets:
          a: s3://l/a
          b: {source: s3://l/b, as_of: latest}
          c: {source: s3://l/c, as_of: 7 days}
          d: {source: s3://l/d, version_id: v1}
    """)
    pins = [catalog.datasets[name].pin for name in "abcd"]

    assert [type(pin) for pin in pins] == [AsOf, Latest, Ago, VersionId]


def test_local_sources_are_relative_to_the_file_that_declares_them(project: Project) -> None:
    """An included file keeps its meaning wherever it is included."""
    project.write("datasets: {b: in/b.csv}", "shared/common.yaml")
    catalog = project.load("include: shared/common.yaml\ndatasets: {a: in/a.csv}")

    assert catalog.datasets["a"].source == f"file://{project.root}/in/a.csv"
    assert catalog.datasets["b"].source == f"file://{project.root}/shared/in/b.csv"


def test_an_included_file_brings_its_own_defaults(project: Project) -> None:
    """They stand above the main catalog's, and hold for that file alone."""
    project.write(
        "as_of: 2023\ndefaults: {owner: them}\ndatasets: {b: s3://l/b}", "shared/common.yaml"
    )
    catalog = project.load("""\
        include: [shared/common.yaml]
        as_of: 2024
        defaults: {owner: us, format: csv}
        datasets: {a: s3://l/a}
    """)
    a, b = catalog.datasets["a"], catalog.datasets["b"]

    assert (a.owner, a.format, str(a.as_of)) == ("us", "csv", "2024")
    assert (b.owner, b.format, str(b.as_of)) == ("them", "csv", "2023")


def test_a_file_that_two_files_include_is_read_once(project: Project) -> None:
    """A diamond is no double declaration."""
    project.write("datasets: {d: s3://l/d}", "d.yaml")
    project.write("include: d.yaml", "b.yaml")
    project.write("include: d.yaml", "c.yaml")

    assert list(project.load("include: [b.yaml, c.yaml]").datasets) == ["d"]


def test_variables_come_from_the_environment_that_is_passed(project: Project) -> None:
    """Also where a flag, a choice or a size is needed."""
    catalog = project.load(
        """\
        cache: {max_size: "${SIZE}", link: "${LINK:-copy}"}
        storages: {lab: {anon: "${ANON}", endpoint_url: "${LAB:-http://localhost:9000}"}}
        datasets: {x: "s3://${BUCKET}/x/$${y}"}
        x-free: ${UNSET}
        """,
        SIZE="1 GB",
        ANON="true",
        BUCKET="lake",
    )

    assert (catalog.cache.max_size, catalog.cache.link) == (10**9, "copy")
    assert catalog.storages["lab"].anon is True
    assert catalog.storages["lab"].endpoint_url == "http://localhost:9000"
    assert catalog.datasets["x"].source == "s3://lake/x/${y}"


def test_text_between_dollars_and_braces_is_replaced_once(project: Project) -> None:
    """A value is not looked through again, not even where an alias repeats it."""
    catalog = project.load(
        "datasets:\n  a: &a {source: 's3://l/x', metadata: {m: '$${X}', n: '${X}'}}\n  b: *a\n",
        X="${Y}",
    )

    assert catalog.datasets["a"].metadata == {"m": "${X}", "n": "${Y}"}
    assert catalog.datasets["b"].metadata == {"m": "${X}", "n": "${Y}"}


def test_toml_says_the_same(project: Project) -> None:
    """The keys are those of YAML."""
    text = """\
        version = 1
        as_of = 2024-12-10
        [storages.lake]
        region = "eu-west-1"
        [datasets]
        x = "s3://l/x"
        [datasets.y]
        source = ["s3://l/a", "s3://l/b"]
        storage = "lake"
    """
    catalog = project.load(text, "catalog.toml")

    assert str(catalog.datasets["x"].as_of) == "2024-12-10"
    assert catalog.datasets["y"].sources == ("s3://l/a", "s3://l/b")
    assert catalog.declared == {"x": "catalog.toml:6", "y": "catalog.toml:7"}


def test_a_further_catalog_is_at_home_in_the_project(project: Project) -> None:
    """Paths of `.datacachalog/catalogs/core.yaml` still land in the project's folder."""
    catalog = project.load("datasets: {x: s3://l/x}", ".datacachalog/catalogs/core.yaml")

    assert (catalog.name, catalog.root) == ("core", project.root)


def test_a_catalog_without_datasets_is_only_worth_a_warning(project: Project) -> None:
    """`dcl init` writes one."""
    assert project.load("version: 1\ndatasets:\n").warnings == ("catalog.yaml has no datasets",)


def test_a_free_key_among_datasets_is_worth_a_warning(project: Project) -> None:
    """Somebody may have meant it as a name."""
    catalog = project.load("datasets:\n  x-rays: s3://l/x\n  y: s3://l/y\n")

    assert list(catalog.datasets) == ["y"]
    assert catalog.warnings == (
        "catalog.yaml:2: 'x-rays' is left out, as keys that begin with `x-` are free",
    )


@pytest.mark.parametrize(
    ("written", "folder"),
    [(".cache", "{root}/.cache"), ("/scratch/dcl", "/scratch/dcl"), ("~/dcl", "/home/ada/dcl")],
)
def test_a_cache_folder_is_relative_to_the_project(
    project: Project, monkeypatch: pytest.MonkeyPatch, written: str, folder: str
) -> None:
    """Wherever the command is run."""
    monkeypatch.setenv("HOME", "/home/ada")
    catalog = project.load(f"cache: {{dir: {written}}}", ".datacachalog/catalogs/core.yaml")

    assert catalog.cache.dir == folder.format(root=project.root)


def test_certificates_are_relative_to_the_file(project: Project) -> None:
    """As everything that names a file is."""
    project.write("storages: {lab: {ca_bundle: certs/lab.pem}}", "shared/s.yaml")
    catalog = project.load("include: shared/s.yaml\ndatasets: {x: s3://l/x}")

    assert catalog.storages["lab"].ca_bundle == f"{project.root}/shared/certs/lab.pem"


def test_two_single_objects_may_share_a_folder(project: Project) -> None:
    """With `layout: source` files of one folder land side by side."""
    catalog = project.load("""\
        data: {layout: source}
        datasets: {x: s3://l/a/x.csv, y: s3://l/a/y.csv}
    """)
    folders = {landing(dataset, catalog.data) for dataset in catalog.datasets.values()}

    assert folders == {"data/a"}


def test_aliases_can_repeat_a_dataset(project: Project) -> None:
    """Plain aliases are YAML's way of saying it again."""
    catalog = project.load("""\
        x-common: &common {source: s3://l/x, tags: [a]}
        datasets: {a: *common, b: *common}
    """)

    assert catalog.datasets["b"].tags == ("a",)


# --- what is wrong ------------------------------------------------------------------


def test_all_problems_come_at_once(project: Project) -> None:
    """One run shows everything there is to repair, in the order of the file."""
    problems = project.problems("""\
        version: 1
        as_of: 2024-12-10T09:30
        datsets: {}
        data: {dir: ../out, layout: nme}
        cache: {max_size: 50 Gigs, max_sise: 1}
        storages:
          lake: {profile: analytics, secret: hush}
          lab: {anon: yes, client_kwargs: {}, region: "${NOPE}"}
        defaults: {storage: lkae, max_age: 600, as_of: 2024}
        datasets:
          customers: s3://acme-lake
          my data: s3://b/x
          a: gs://b/x
          b:
          c: [a, b]
          d: {sorce: s3://b/x}
          e: {source: s3://b/x, allow_empty: "no", push: 1, owner: 12, name: f}
          f: {source: [s3://b/x, "ftp://b", 3], tags: 4}
          g: {source: s3://b/*, version_id: x}
          h: {source: s3://b/x, path: ../../x, on_stale: never}
          i: {source: s3://b/x, storage: lab2}
          a: s3://twice/x
    """)

    assert problems == [
        (
            "catalog.yaml:2:8: '2024-12-10T09:30' has no time zone",
            "write `2024-12-10T09:30Z` for UTC, or an offset such as `2024-12-10T09:30+02:00`",
        ),
        (
            "catalog.yaml:3:1: unknown key `datsets` in the catalog",
            "did you mean `datasets`?",
        ),
        (
            "catalog.yaml:4:13: the path '../out' leaves the project",
            "write a path below the catalog's folder, such as `data/raw`",
        ),
        (
            "catalog.yaml:4:29: `layout` must be `name` or `source`, not 'nme'",
            "write `layout: name`",
        ),
        (
            "catalog.yaml:5:19: '50 Gigs' is not a size",
            "write `50 GB` (powers of 1000) or `50 GiB` (of 1024)",
        ),
        (
            "catalog.yaml:5:28: unknown key `max_sise` in `cache`",
            "did you mean `max_size`?",
        ),
        (
            "catalog.yaml:7:38: `secret` is written out, and a catalog is no place for secrets",
            "read it from the environment: `secret: ${LAKE_SECRET}`",
        ),
        (
            "catalog.yaml:7:38: `secret` is given without `key`",
            "add `key: ${KEY}`",
        ),
        (
            "catalog.yaml:8:15: `anon` must be `true` or `false`, not 'yes'",
            "write `anon: true`",
        ),
        (
            "catalog.yaml:8:20: unknown key `client_kwargs` in the storage 'lab'",
            "its keys `endpoint_url`, `region` and `verify` stand in the storage itself",
        ),
        (
            "catalog.yaml:8:47: the environment variable `NOPE` is not set",
            "set it, or give a default: `${NOPE:-…}`",
        ),
        ("catalog.yaml:9:21: there is no storage 'lkae'", "did you mean 'lake'?"),
        (
            "catalog.yaml:9:36: `600` is not a duration",
            "add a unit: `600 seconds` or `600 minutes`",
        ),
        (
            "catalog.yaml:9:41: unknown key `as_of` in `defaults`",
            "write it at the top of the catalog, for all datasets",
        ),
        (
            "catalog.yaml:11:14: the source 's3://acme-lake' names no object",
            "write `s3://acme-lake/**` for everything in the bucket",
        ),
        (
            "catalog.yaml:12:3: 'my data' is not a name",
            "use letters, digits, `_`, `-` and `.`, beginning with a letter or a digit",
        ),
        (
            "catalog.yaml:13:6: the scheme of 'gs://b/x' is not supported",
            "write `s3://bucket/key`, `file:///path`, or a path",
        ),
        ("catalog.yaml:14:3: the dataset 'b' is empty", "write `b: s3://bucket/key`"),
        (
            "catalog.yaml:15:3: the dataset 'c' must be a source or keys and values, not a list",
            "write `c: s3://bucket/key`, or `source:` below the name",
        ),
        (
            "catalog.yaml:16:7: unknown key `sorce` in the dataset 'd'",
            "did you mean `source`?",
        ),
        (
            "catalog.yaml:17:38: `allow_empty` must be `true` or `false`, not 'no'",
            "write `allow_empty: false`",
        ),
        (
            "catalog.yaml:17:50: `push` must be `true` or `false`, not the number 1",
            "write `push: true`",
        ),
        (
            "catalog.yaml:17:60: `owner` must be text, not the number 12",
            'put it in quotes: `owner: "12"`',
        ),
        (
            "catalog.yaml:17:64: unknown key `name` in the dataset 'e'",
            "the key above is the name: remove this one",
        ),
        (
            "catalog.yaml:18:26: the scheme of 'ftp://b' is not supported",
            "write `s3://bucket/key`, `file:///path`, or a path",
        ),
        (
            "catalog.yaml:18:37: the source is not text",
            "write a URI such as `s3://bucket/key`, or a path",
        ),
        (
            "catalog.yaml:18:47: `tags` must be a text or a list of texts",
            'write `["one", "two"]`',
        ),
        (
            "catalog.yaml:19:37: `version_id` needs a single object",
            "use `as_of` for a glob or a list",
        ),
        (
            "catalog.yaml:20:31: the path '../../x' leaves the project",
            "write a path below the catalog's folder, such as `data/raw`",
        ),
        (
            "catalog.yaml:20:50: `on_stale` must be `warn` or `error`, not 'never'",
            "write `on_stale: warn`",
        ),
        ("catalog.yaml:21:34: there is no storage 'lab2'", "did you mean 'lab'?"),
        (
            "catalog.yaml:22:3: the key 'a' is given twice, first in line 13",
            "remove one of them",
        ),
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "catalog.yaml:1:1: the catalog is empty"),
        ("# only a comment", "catalog.yaml:1:1: the catalog is empty"),
        ("- a", "catalog.yaml:1:1: a catalog is made of keys and values, not a list"),
        ("hello", "catalog.yaml:1:1: a catalog is made of keys and values, not 'hello'"),
        (
            "version: 2",
            "catalog.yaml:1:10: the catalog is written in format 2; this `dcl` reads format 1",
        ),
        ("version: one", "catalog.yaml:1:10: `version` must be 1, not 'one'"),
        ("version: true", "catalog.yaml:1:10: `version` must be 1, not the value true"),
        ("datasets: [a]", "catalog.yaml:1:11: `datasets` must be keys and values, not a list"),
        ("include: 3", "catalog.yaml:1:10: `include` takes local files, not the number 3"),
        (
            "include: [s3://b/x.yaml]",
            "catalog.yaml:1:11: `include` takes local files, not 's3://b/x.yaml'",
        ),
        ("include: none.yaml", "catalog.yaml:1:10: there is no file none.yaml"),
        ("datasets:\n\tx: y", "catalog.yaml:2:1: a tab stands where only spaces can"),
        ("storages: {lab: 12}", "catalog.yaml:1:12: the storage 'lab' must be keys and values, "
         "not the number 12"),
        ("datasets: {x: 's3://l/${a b}'}", "catalog.yaml:1:15: 's3://l/${a b}' holds a `${` that "
         "is no reference"),
    ],
)  # fmt: skip
def test_a_broken_catalog_is_one_clear_problem(project: Project, text: str, problem: str) -> None:
    """One slip, one sentence, and its place."""
    assert [message for message, _ in project.problems(text)] == [problem]


def test_a_newer_format_is_not_read_on(project: Project) -> None:
    """What it means is unknown: only the upgrade is advised."""
    problems = project.problems("version: 7\nnovel: 1\n")

    assert [hint for _, hint in problems] == ["upgrade with `pip install --upgrade datacachalog`"]


def test_an_unset_variable_is_its_only_problem(project: Project) -> None:
    """What follows from it is not reported too."""
    problems = project.problems("datasets: {x: {source: s3://l/x, as_of: '${WHEN}'}}")

    assert problems == [
        (
            "catalog.yaml:1:41: the environment variable `WHEN` is not set",
            "set it, or give a default: `${WHEN:-…}`",
        )
    ]


def test_a_secret_is_never_repeated(project: Project) -> None:
    """Neither a wrong secret nor one in the environment reaches a message."""
    problems = project.problems(
        "storages:\n  a: {key: k, secret: hush}\n  b: {key: ['${HUSH}'], secret: '${HUSH}'}\n",
        HUSH="hush-hush",
    )

    assert problems
    assert "hush" not in str(problems).lower().replace("${hush}", "")


def test_a_name_in_two_files_names_both_places(project: Project) -> None:
    """Whoever repairs it sees where the other one is."""
    project.write("datasets: {x: s3://l/x}", "shared/common.yaml")
    problems = project.problems("include: shared/common.yaml\ndatasets: {x: s3://l/x}")

    assert problems == [
        (
            "shared/common.yaml:1:12: 'x' is declared already, in catalog.yaml:2",
            "remove or rename one of them",
        )
    ]


def test_files_that_include_each_other_are_refused(project: Project) -> None:
    """A circle is a problem where it closes."""
    project.write("include: ../catalog.yaml", "shared/common.yaml")
    problems = project.problems("include: shared/common.yaml\ndatasets: {x: s3://l/x}")

    assert [message for message, _ in problems] == [
        "shared/common.yaml:1:10: catalog.yaml includes itself"
    ]


def test_only_the_main_catalog_says_where_things_go(project: Project) -> None:
    """A shared file cannot move another project's data."""
    project.write("data: {dir: elsewhere}", "shared/common.yaml")
    problems = project.problems("include: shared/common.yaml\ndatasets: {x: s3://l/x}")

    assert problems == [
        (
            "shared/common.yaml:1:1: `data` has no effect in an included file",
            "write it in catalog.yaml",
        )
    ]


@pytest.mark.parametrize(
    ("datasets", "layout", "problem"),
    [
        (
            "{a: {source: s3://l/*, path: in}, b: {source: s3://m/*, path: in/}}",
            "name",
            "the datasets 'a' and 'b' would both land on in",
        ),
        (
            "{a: {source: s3://l/*, path: data/b/c}, b: s3://m/*}",
            "name",
            "the dataset 'a' would land on data/b/c, inside data/b of 'b'",
        ),
        (
            "{a: s3://l/*, A: s3://m/*}",
            "name",
            "the datasets 'a' and 'A' would land on data/a and data/A, which differ only in case",
        ),
        (
            "{a: s3://l/k/*.csv, b: s3://l/k/*.json}",
            "source",
            "the datasets 'a' and 'b' would both land on data/k",
        ),
        (
            "{a: s3://l/k/x.csv, b: s3://m/k/x.csv}",
            "source",
            "the datasets 'a' and 'b' would both land on data/k/x.csv",
        ),
        (
            "{a: s3://l/k/x, b: s3://l/**}",
            "source",
            "the dataset 'a' would land on data/k/x, inside data of 'b'",
        ),
        (
            "{a: s3://l/k//x}",
            "source",
            "`layout: source` cannot mirror the sources of 'a'",
        ),
    ],
)
def test_datasets_that_would_meet_on_disk_are_refused(
    project: Project, datasets: str, layout: str, problem: str
) -> None:
    """Two datasets never own one file, on any file system."""
    problems = project.problems(f"data: {{layout: {layout}}}\ndatasets: {datasets}")

    assert [message.partition(" ")[2] for message, _ in problems] == [problem]


def test_problems_in_toml_have_places_too(project: Project) -> None:
    """Keys at the start of a line are found."""
    problems = project.problems(
        """\
        [storages.lake]
        secret = "x"
        [datasets.x]
        source = "s3://l"
        sorce = "y"
        """,
        "catalog.toml",
    )

    assert [message.split(": ")[0] for message, _ in problems] == [
        "catalog.toml:2:10",
        "catalog.toml:2:10",
        "catalog.toml:4:10",
        "catalog.toml:5:1",
    ]


def test_a_place_outside_the_current_folder_is_absolute(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path in a message can be opened from where the user is."""
    path = project.write("nonsense: 1")
    (project.root / "deeper").mkdir()
    monkeypatch.chdir(project.root / "deeper")

    with pytest.raises(InvalidCatalogError) as caught:
        load(path, environ={})

    assert caught.value.problems[0].file == str(path)


def test_a_missing_catalog_says_how_to_get_one(project: Project) -> None:
    """The first thing a new user meets."""
    with pytest.raises(CatalogNotFoundError, match=r"there is no file catalog\.yaml") as caught:
        load(project.root / "catalog.yaml", environ={})

    assert caught.value.hint == "`dcl init` writes one"


def test_a_folder_is_no_catalog(project: Project) -> None:
    """What the system says is passed on."""
    with pytest.raises(CatalogNotFoundError, match="cannot be read: is a directory"):
        load(project.root, environ={})


def test_a_large_file_is_not_even_read(project: Project) -> None:
    """A data file that was named by mistake is refused at once."""
    path = project.root / "catalog.yaml"
    with open(path, "wb") as file:
        os.truncate(file.fileno(), 10**10)

    with pytest.raises(InvalidCatalogError, match="the file is larger than 4 MB"):
        load(path, environ={})


KEYS = sorted(
    {
        key
        for model in (CatalogSpec, DataSettings, CacheSettings, StorageSettings, Dataset)
        for key in model.model_fields
    }
    | {"x-free", "a", ""}
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
WORDS = st.sampled_from(
    ["s3://l/x", "2024", "7 days", "${X}", "in/", "latest", "a", "name", "../x"]
)
VALUES = st.recursive(
    SCALARS | WORDS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(
    st.fixed_dictionaries(
        {"datasets": st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=3)},
        optional=dict.fromkeys(("version", "as_of", "data", "cache", "defaults"), VALUES)
        | {"storages": st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=2) | VALUES},
    )
)
@example({"datasets": {"a": {"name": None}}})
def test_any_value_anywhere_is_read_or_is_a_problem(
    tmp_path_factory: pytest.TempPathFactory, catalog: dict[str, object]
) -> None:
    """No value, wherever it stands, brings anything but problems with their places."""
    path = tmp_path_factory.getbasetemp() / "catalog.yaml"
    path.write_text(json.dumps(catalog).replace("\\ud", "\\u0"), "utf-8")

    problems = found_in(path)

    assert all(problem.message and problem.line for problem in problems)


def found_in(path: Path) -> tuple[Problem, ...]:
    """Return the problems of a catalog, none if it loads."""
    try:
        load(path, environ={"X": "x"})
    except InvalidCatalogError as exc:
        return exc.problems
    return ()
