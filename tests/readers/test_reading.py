"""Reading: every row of the table on real files, the choice among libraries, and errors."""

import gzip
import importlib
import json
import lzma
import sys
import textwrap
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from datacachalog import readers
from datacachalog.errors import MissingExtraError, ReaderError
from datacachalog.readers.formats import COMPRESSIONS, EXTRAS, FORMATS, Format, Reader
from datacachalog.spec.models import Dataset

TABULAR = [
    pytest.param(format_, reader, id=f"{format_.name}-{reader.library}")
    for format_ in FORMATS
    for reader in format_.readers
    if reader.library in EXTRAS
]
PACKED = [
    pytest.param(format_, reader, packing, id=f"{format_.name}-{reader.library}-{packing[1:]}")
    for format_ in FORMATS
    for reader in format_.readers
    for packing in sorted(reader.unpacks)
]

BROUGHT = {
    "polars": {"polars"},
    "pandas": {"pandas", "pyarrow"},
    "pyarrow": {"pyarrow"},
    "geopandas": {"geopandas", "pandas", "pyarrow"},
}
"""What each extra installs, of the libraries that read."""


def one(**keys: Any) -> Dataset:
    """Return a dataset of a single object."""
    return Dataset(name="orders", source="s3://lake/orders.csv", **keys)


def many(**keys: Any) -> Dataset:
    """Return a dataset of a glob."""
    return Dataset(name="orders", source="s3://lake/orders/*", **keys)


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that leaves only what the extras of the given libraries bring."""

    def hide_others(*libraries: str) -> None:
        brought = {name for library in libraries for name in BROUGHT[library]}
        for library in set(EXTRAS) - brought:
            monkeypatch.setitem(sys.modules, library, None)

    return hide_others


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Return a function that makes a module importable from its source."""
    folder = tmp_path / "packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    before = set(sys.modules)

    def write(name: str, source: str) -> None:
        path = folder.joinpath(*name.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(source))
        importlib.invalidate_caches()

    yield write
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None)
        if file and Path(file).is_relative_to(folder):
            del sys.modules[name]


def write(format_: Format, path: Path, numbers: Sequence[int]) -> Path:
    """Write a table with the column `n` (and points, for maps) in a format."""
    import geopandas
    import pyarrow as pa
    from pyarrow import feather, parquet

    rows = [{"n": n, "m": n / 2} for n in numbers]
    match format_.name:
        case "csv" | "tsv":
            comma = "\t" if format_.name == "tsv" else ","
            lines = [("n", "m"), *((str(row["n"]), str(row["m"])) for row in rows)]
            path.write_text("".join(comma.join(line) + "\n" for line in lines))
        case "json":
            path.write_text(json.dumps(rows))
        case "jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        case "parquet":
            parquet.write_table(pa.table({"n": list(numbers)}), path)
        case "arrow":
            feather.write_feather(pa.table({"n": list(numbers)}), str(path))
        case _:
            points = geopandas.points_from_xy(numbers, numbers)
            frame = geopandas.GeoDataFrame({"n": list(numbers)}, geometry=points, crs=4326)
            frame.to_parquet(path) if format_.name == "geoparquet" else frame.to_file(path)
    return path


def pack(path: Path, packing: str) -> Path:
    """Return a compressed copy beside the file, whose name says how."""
    import pyarrow as pa

    packed = path.with_name(path.name + packing)
    if packing == ".zip":
        with zipfile.ZipFile(packed, "w") as archive:
            for member in path.parent.glob(f"{path.stem}.*"):
                if member != packed:
                    archive.write(member, member.name)
    elif packing == ".xz":
        packed.write_bytes(lzma.compress(path.read_bytes()))
    else:
        codec = {".gz": "gzip", ".zst": "zstd"}.get(packing, packing[1:])
        with pa.CompressedOutputStream(str(packed), codec) as out:
            out.write(path.read_bytes())
    return packed


def numbers_in(table: Any) -> list[int]:
    """Return the column `n` of any library's table."""
    column = table["n"]
    return list(column.to_pylist() if hasattr(column, "to_pylist") else column)


# --- every row of the table ---------------------------------------------------------


@pytest.mark.parametrize(("format_", "reader"), TABULAR)
def test_each_library_makes_one_table_of_a_file_or_many(
    format_: Format, reader: Reader, tmp_path: Path, only: Callable[..., None]
) -> None:
    """It is that library's own kind of table; the files of a glob follow in their order."""
    first = write(format_, tmp_path / f"b{format_.suffixes[0]}", [3])
    second = write(format_, tmp_path / f"a{format_.suffixes[-1]}", [1, 2])
    only(reader.library)

    for found, numbers in [
        (readers.read(one(), first), [3]),
        (readers.read(many(), [first, second]), [3, 1, 2]),
    ]:
        assert type(found).__module__.partition(".")[0] == reader.library
        assert numbers_in(found) == numbers


@pytest.mark.parametrize(("format_", "reader", "packing"), PACKED)
def test_each_library_undoes_the_compressions_it_claims(
    format_: Format, reader: Reader, packing: str, tmp_path: Path, only: Callable[..., None]
) -> None:
    """What the table promises about compression holds with the library installed here."""
    path = pack(write(format_, tmp_path / f"a{format_.suffixes[0]}", [1, 2]), packing)
    only(reader.library)

    assert numbers_in(readers.read(one(), path)) == [1, 2]


def test_the_table_is_unambiguous() -> None:
    """A suffix belongs to one format, and every compression of a reader is known as one."""
    suffixes = [suffix for format_ in FORMATS for suffix in format_.suffixes]
    unpacked = {p for format_ in FORMATS for reader in format_.readers for p in reader.unpacks}

    assert len(suffixes) == len(set(suffixes))
    assert unpacked <= COMPRESSIONS


# --- what is chosen -----------------------------------------------------------------


def test_polars_is_preferred(tmp_path: Path) -> None:
    """With everything installed, polars reads."""
    path = tmp_path / "a.csv"
    path.write_text("n\n1\n")

    assert type(readers.read(one(), path)).__module__.startswith("polars")


def test_a_library_that_cannot_unpack_is_passed_over(
    tmp_path: Path, only: Callable[..., None]
) -> None:
    """Polars makes an empty table of `.csv.bz2`, so the next library reads it."""
    path = pack(write(_format("csv"), tmp_path / "a.csv", [1, 2]), ".bz2")
    only("polars", "pyarrow")

    table = readers.read(one(), path)

    assert type(table).__module__.startswith("pyarrow")
    assert numbers_in(table) == [1, 2]


@pytest.mark.parametrize("name", ["csv", "CSV", ".csv"])
def test_format_stands_above_the_suffix(name: str, tmp_path: Path) -> None:
    """`format:` says what the suffix does not, in any spelling."""
    path = tmp_path / "export.dat"
    path.write_text("n\n7\n")

    assert numbers_in(readers.read(one(format=name), path)) == [7]


def test_suffixes_are_read_in_any_case(tmp_path: Path) -> None:
    """`A.CSV.GZ` is a compressed CSV file."""
    path = tmp_path / "A.CSV.GZ"
    path.write_bytes(gzip.compress(b"n\n7\n"))

    assert numbers_in(readers.read(one(), path)) == [7]


def test_integers_and_floats_of_one_column_widen(tmp_path: Path) -> None:
    """A column that looks like integers in one file and like floats in the next is floats."""
    paths = [tmp_path / "a.csv", tmp_path / "b.csv"]
    paths[0].write_text("n\n1\n")
    paths[1].write_text("n\n2.5\n")

    assert numbers_in(readers.read(many(), paths)) == [1.0, 2.5]


def test_hive_partitions_become_columns(tmp_path: Path) -> None:
    """`read_args: {hive_partitioning: true}` reaches the reader of all files at once."""
    paths = []
    for year in (2025, 2026):
        folder = tmp_path / f"year={year}"
        folder.mkdir()
        paths.append(write(_format("parquet"), folder / "a.parquet", [1]))

    table = readers.read(many(read_args={"hive_partitioning": True}), paths)

    assert table["year"].to_list() == [2025, 2026]


def test_arguments_of_the_call_stand_above_the_catalogs(tmp_path: Path) -> None:
    """What `load` is given replaces the same key of `read_args`, and keeps the others."""
    path = tmp_path / "a.csv"
    path.write_text("skip\nn;m\n1;2\n3;4\n")
    dataset = one(read_args={"separator": "|", "skip_rows": 1})

    assert numbers_in(readers.read(dataset, path, {"separator": ";"})) == [1, 3]


def test_a_shapefile_is_read_with_its_companions_beside_it(tmp_path: Path) -> None:
    """A glob over `roads.*` brings the index and attribute files, which are not tables."""
    write(_format("shp"), tmp_path / "roads.shp", [1, 2])

    table = readers.read(many(), sorted(tmp_path.iterdir()))

    assert numbers_in(table) == [1, 2]


@pytest.mark.parametrize(
    ("name", "expected"),
    [pytest.param(None, "größer", id="text"), pytest.param("bytes", "größer".encode(), id="bytes")],
)
def test_text_and_bytes_need_no_library(
    name: str | None, expected: object, tmp_path: Path, only: Callable[..., None]
) -> None:
    """Text files are text, and `format: bytes` gives any file as it is; many are a list."""
    path = tmp_path / "a.txt"
    path.write_text("größer", encoding="utf-8")
    only()

    assert readers.read(one(format=name), path) == expected
    assert readers.read(many(format=name), [path, path]) == [expected, expected]


# --- a reader of one's own ----------------------------------------------------------


def test_a_named_reader_gets_the_path_and_the_arguments(
    tmp_path: Path, package: Callable[..., None]
) -> None:
    """`reader:` is called with the path first and `read_args` as keywords."""
    package("acme", "def read(path, *, unit): return path, unit")
    path = tmp_path / "a.bin"

    assert readers.read(one(reader="acme.read", read_args={"unit": "m"}), path) == (path, "m")


def test_a_named_reader_gets_the_list_of_a_glob(
    tmp_path: Path, package: Callable[..., None]
) -> None:
    """For a glob the reader gets all paths in one call, of whatever suffix."""
    package("acme", "def read(paths): return paths")
    paths = [tmp_path / "a.bin", tmp_path / "b.csv"]

    assert readers.read(many(reader="acme.read"), paths) == paths


def test_a_lazy_reader_of_a_library(tmp_path: Path) -> None:
    """`polars.scan_parquet` gives a lazy frame over all files."""
    paths = [write(_format("parquet"), tmp_path / f"{n}.parquet", [n]) for n in (1, 2)]

    frame = readers.read(many(reader="polars.scan_parquet"), paths)

    assert numbers_in(frame.collect()) == [1, 2]


@pytest.mark.parametrize("reader", ["acme.tables.read", "acme.tables.Orders.read"])
def test_a_reader_may_live_in_a_submodule_or_a_class(
    reader: str, tmp_path: Path, package: Callable[..., None]
) -> None:
    """The name is followed through modules, then through attributes."""
    package("acme.__init__", "")
    package(
        "acme.tables",
        """
        def read(path): return 'read'
        class Orders:
            read = staticmethod(read)
        """,
    )

    assert readers.read(one(reader=reader), tmp_path) == "read"


# --- what goes wrong ----------------------------------------------------------------


def _format(name: str) -> Format:
    return next(format_ for format_ in FORMATS if format_.name == name)


def _hint_of(error: pytest.ExceptionInfo[ReaderError]) -> str:
    assert error.value.hint is not None
    return error.value.hint


@pytest.mark.parametrize(
    ("file", "sentence", "extra"),
    [
        ("a.parquet", "'orders' (parquet) needs polars or pandas or pyarrow", "polars"),
        ("a.tsv.xz", "'orders' (tsv) needs pandas", "pandas"),
        ("a.geojson", "'orders' (geojson) needs geopandas", "geopandas"),
    ],
)
def test_without_a_library_the_error_names_the_extra(
    file: str, sentence: str, extra: str, tmp_path: Path, only: Callable[..., None]
) -> None:
    """The hint is the command that brings a library which reads these very files."""
    only()

    with pytest.raises(MissingExtraError) as error:
        readers.read(one(), tmp_path / file)

    assert sentence in str(error.value)
    assert _hint_of(error) == f"run `pip install 'datacachalog[{extra}]'`"


def test_a_folder_of_a_librarys_name_is_no_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, only: Callable[..., None]
) -> None:
    """A project's folder `polars/` is importable as a namespace, and is not polars."""
    only("pyarrow")
    (tmp_path / "polars").mkdir()
    monkeypatch.delitem(sys.modules, "polars")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])

    with pytest.raises(MissingExtraError):
        readers.read(one(), tmp_path / "a.json")


def test_a_named_reader_of_a_missing_library_names_the_extra(
    tmp_path: Path, only: Callable[..., None]
) -> None:
    """`reader: polars.read_csv` without polars says what to install."""
    only()

    with pytest.raises(MissingExtraError, match=r"needs polars, which is not installed") as error:
        readers.read(one(reader="polars.read_csv"), tmp_path / "a.csv")

    assert "datacachalog[polars]" in _hint_of(error)


def test_a_librarys_own_missing_dependency_names_the_extra(
    tmp_path: Path, package: Callable[..., None], only: Callable[..., None]
) -> None:
    """Pandas without pyarrow cannot read parquet; the extra `pandas` brings both."""
    only()
    sys.modules.pop("pandas")
    package("pandas", "def read_parquet(path): raise ImportError('no usable engine')")

    with pytest.raises(MissingExtraError, match="no usable engine") as error:
        readers.read(one(), tmp_path / "a.parquet")

    assert "datacachalog[pandas]" in _hint_of(error)


@pytest.mark.parametrize(
    ("keys", "files", "sentence", "hint"),
    [
        ({}, "a.xlsx", "no reader for files ending in '.xlsx'", "pandas.read_excel"),
        ({}, "a.qqq", "no reader for files ending in '.qqq'", "format:"),
        ({}, "a", "no reader for files without a suffix", "format:"),
        ({}, "a.parquet.gz", "no reader for parquet compressed as .gz", "reader:"),
        ({"format": "parqet"}, "a", "for the format 'parqet'", "'parquet'"),
        ({"format": "xml"}, "a", "for the format 'xml'", "one of parquet, csv"),
        (
            {},
            "a.csv b.csv c.csv.gz _SUCCESS",
            "several formats: 3 .csv, 1 without a suffix",
            'exclude: ["_SUCCESS"]',
        ),
        (
            {},
            "a.csv b.parquet c.parquet",
            "several formats: 1 .csv, 2 .parquet",
            'exclude: ["*.csv"]',
        ),
    ],
)
def test_files_without_a_reader(
    keys: dict[str, str], files: str, sentence: str, hint: str, tmp_path: Path
) -> None:
    """The error says what stands in the way, the hint what to write into the catalog."""
    paths = [tmp_path / file for file in files.split()]

    with pytest.raises(ReaderError) as error:
        readers.read(many(**keys), paths) if paths[1:] else readers.read(one(**keys), paths[0])

    assert sentence in str(error.value)
    assert hint in _hint_of(error)


def test_no_files_are_no_table() -> None:
    """A glob that is allowed to be empty cannot be read while it is."""
    with pytest.raises(ReaderError, match="'orders' has no files to read"):
        readers.read(many(allow_empty=True), [])


@pytest.mark.parametrize(
    ("reader", "sentence", "hint"),
    [
        ("nothere.read", "there is no module 'nothere'", "install the package"),
        ("polrs.read_csv", "there is no module 'polrs'", "did you mean `polars.read_csv`?"),
        ("acme.raed", "`acme` has no 'raed'", "did you mean `acme.read`?"),
        ("acme.Orders.raed", "`acme.Orders` has no 'raed'", "did you mean `acme.Orders.read`?"),
        ("acme.zzz", "`acme` has no 'zzz'", "correct `reader:`"),
        ("acme.version", "is of type str, not a function", "polars.read_csv"),
        ("acme.path", "is a module, not a function", "polars.read_csv"),
        ("broken.read", "cannot be imported: RuntimeError: not today", "import broken"),
        ("needy.read", "cannot be imported: ModuleNotFoundError", "import needy"),
    ],
)
def test_readers_that_are_none(
    reader: str, sentence: str, hint: str, tmp_path: Path, package: Callable[..., None]
) -> None:
    """Each way in which a name leads to no function has its sentence."""
    package(
        "acme",
        """
        from os import path
        version = '1'
        def read(path): ...
        class Orders:
            def read(path): ...
        """,
    )
    package("broken", "raise RuntimeError('not today')")
    package("needy", "import not_there_at_all")

    with pytest.raises(ReaderError) as error:
        readers.read(one(reader=reader), tmp_path / "a")

    assert sentence in str(error.value)
    assert hint in _hint_of(error)


def test_a_failing_reader_is_named_with_the_file(tmp_path: Path) -> None:
    """The library's complaint becomes one line; the exception itself stays behind it."""
    path = tmp_path / "a.parquet"
    path.write_bytes(b"no parquet at all")

    with pytest.raises(ReaderError) as error:
        readers.read(one(), path)

    assert f"`polars.read_parquet` cannot read '{path}' of 'orders'" in str(error.value)
    assert "\n" not in str(error.value)
    assert "read_args" in _hint_of(error)
    assert error.value.__cause__ is not None


def test_a_wrong_argument_is_the_readers_failure(tmp_path: Path) -> None:
    """An argument that the function does not take is shown as it complains of it."""
    path = tmp_path / "a.csv"
    path.write_text("n\n1\n")

    with pytest.raises(ReaderError, match="seperator"):
        readers.read(one(read_args={"seperator": ";"}), path)


def test_files_that_do_not_fit_together(tmp_path: Path) -> None:
    """Files with different columns are an error, not a table with holes."""
    paths = [tmp_path / "a.csv", tmp_path / "b.csv"]
    paths[0].write_text("n\n1\n")
    paths[1].write_text("m\n1\n")

    with pytest.raises(ReaderError, match="the 2 files of 'orders' do not fit together"):
        readers.read(many(), paths)


def test_long_complaints_are_cut(tmp_path: Path, package: Callable[..., None]) -> None:
    """A page of text from a library becomes its beginning."""
    package("acme", "def read(path): raise ValueError('x' * 10_000)")

    with pytest.raises(ReaderError) as error:
        readers.read(one(reader="acme.read"), tmp_path / "a")

    assert str(error.value).endswith("xxx…")
    assert len(str(error.value)) < 700


def test_interrupts_pass_through(tmp_path: Path, package: Callable[..., None]) -> None:
    """Ctrl-C while a reader works is Ctrl-C."""
    package("acme", "def read(path): raise KeyboardInterrupt")

    with pytest.raises(KeyboardInterrupt):
        readers.read(one(reader="acme.read"), tmp_path / "a")
