"""The table of formats: which suffixes mean them, and which functions read them.

The readers of a format stand in order of preference: the first whose library is installed
is taken. A new format is a row here.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from datacachalog.errors import ReaderError
from datacachalog.suggest import did_you_mean


@dataclass(frozen=True, slots=True)
class Reader:
    """A function that reads a format, by its full name; the path is its first argument.

    `unpacks` are the compressions that it undoes by itself: those that were tried, because
    some give rubbish without an error (polars an empty table for `.csv.bz2`). One that
    `takes_many` makes a single table of a list of paths.
    """

    function: str
    unpacks: frozenset[str] = frozenset()
    takes_many: bool = False
    args: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def library(self) -> str:
        """Return the top-level package that has to be installed."""
        return self.function.partition(".")[0]

    @property
    def is_installed(self) -> bool:
        """Tell whether its library can be imported, without importing it."""
        spec = find_spec(self.library)
        # A folder that happens to be called so is a namespace package, without an origin.
        return spec is not None and spec.origin is not None


@dataclass(frozen=True, slots=True)
class Format:
    """One format; `companions` are suffixes of files that lie beside it and are not read."""

    name: str
    suffixes: tuple[str, ...]
    readers: tuple[Reader, ...]
    companions: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class DataFiles:
    """Files of one format, in the order given, and how they are compressed."""

    format: Format
    paths: tuple[Path, ...]
    packings: frozenset[str]


_GZ_ZST = frozenset({".gz", ".zst"})
_PANDAS = frozenset({".gz", ".bz2", ".xz", ".zip"})
_PYARROW = frozenset({".gz", ".bz2", ".zst", ".lz4"})
_UTF_8 = {"encoding": "utf-8"}
_BESIDE_SHP = frozenset({".shx", ".dbf", ".prj", ".cpg", ".qix", ".sbn", ".sbx", ".xml"})

FORMATS = (
    Format(
        "parquet",
        (".parquet", ".pq"),
        (
            Reader("polars.read_parquet", takes_many=True),
            Reader("pandas.read_parquet", takes_many=True),
            Reader("pyarrow.parquet.read_table", takes_many=True),
        ),
    ),
    Format(
        "csv",
        (".csv",),
        (
            Reader("polars.read_csv", _GZ_ZST),
            Reader("pandas.read_csv", _PANDAS),
            Reader("pyarrow.csv.read_csv", _PYARROW),
        ),
    ),
    Format(
        "tsv",
        (".tsv", ".tab"),
        (
            Reader("polars.read_csv", _GZ_ZST, args={"separator": "\t"}),
            Reader("pandas.read_csv", _PANDAS, args={"sep": "\t"}),
        ),
    ),
    Format(
        "json",
        (".json",),
        (Reader("polars.read_json", frozenset({".gz"})), Reader("pandas.read_json", _PANDAS)),
    ),
    Format(
        "jsonl",
        (".jsonl", ".ndjson"),
        (
            Reader("polars.read_ndjson", _GZ_ZST),
            Reader("pandas.read_json", _PANDAS, args={"lines": True}),
            Reader("pyarrow.json.read_json", _PYARROW - {".lz4"}),
        ),
    ),
    Format(
        "arrow",
        (".arrow", ".feather", ".ipc"),
        (
            Reader("polars.read_ipc"),
            Reader("pandas.read_feather"),
            Reader("pyarrow.feather.read_table"),
        ),
    ),
    Format("geoparquet", (".geoparquet",), (Reader("geopandas.read_parquet"),)),
    Format("geojson", (".geojson",), (Reader("geopandas.read_file"),)),
    Format("gpkg", (".gpkg",), (Reader("geopandas.read_file"),)),
    Format("shp", (".shp",), (Reader("geopandas.read_file", frozenset({".zip"})),), _BESIDE_SHP),
    Format("text", (".txt", ".md"), (Reader("pathlib.Path.read_text", args=_UTF_8),)),
    Format("bytes", (), (Reader("pathlib.Path.read_bytes"),)),
)

EXTRAS = ("polars", "pandas", "pyarrow", "geopandas")
"""Libraries that an extra of their name brings."""

COMPRESSIONS = frozenset({".gz", ".bz2", ".xz", ".zip", ".zst", ".lz4"})

_BY_SUFFIX = {suffix: format_ for format_ in FORMATS for suffix in format_.suffixes}
_BY_NAME = {suffix.removeprefix("."): format_ for suffix, format_ in _BY_SUFFIX.items()} | {
    format_.name: format_ for format_ in FORMATS
}
_OFTEN = {
    **dict.fromkeys((".xlsx", ".xls"), "pandas.read_excel"),
    **dict.fromkeys((".npy", ".npz"), "numpy.load"),
    **dict.fromkeys((".tif", ".tiff"), "rasterio.open"),
    ".orc": "pandas.read_orc",
    ".h5": "pandas.read_hdf",
    ".avro": "polars.read_avro",
    ".nc": "xarray.open_dataset",
}
"""Functions for suffixes that are no format here: what a hint names."""


def identify(name: str, format_name: str | None, paths: Sequence[Path]) -> DataFiles:
    """Return the files of dataset `name` with their format: the one named, else by suffix.

    Raises `ReaderError` for a format or suffix that is not in the table, and for files of
    several formats.
    """
    split = {path: _split_suffix(path) for path in paths}
    format_ = _named(name, format_name) if format_name else _by_suffixes(name, split)
    chosen = [path for path in paths if split[path][0] not in format_.companions]
    return DataFiles(format_, tuple(chosen), frozenset(split[path][1] for path in chosen) - {""})


def _split_suffix(path: Path) -> tuple[str, str]:
    """Return suffix and compression, in lower case: `.csv` and `.gz` for `A.CSV.gz`."""
    stem, packing = path.name.lower(), ""
    for known in COMPRESSIONS:
        if stem.endswith(known):
            stem, packing = stem.removesuffix(known), known
    return Path(stem).suffix, packing


def _named(name: str, format_name: str) -> Format:
    found = _BY_NAME.get(format_name.lower().removeprefix("."))
    if found is not None:
        return found
    known = ", ".join(format_.name for format_ in FORMATS)
    raise ReaderError(
        f"there is no reader for the format '{format_name}' of '{name}'",
        hint=did_you_mean(format_name, _BY_NAME)
        or f"use one of {known}; or set `reader:` to a function's full name",
    )


def _by_suffixes(name: str, split: Mapping[Path, tuple[str, str]]) -> Format:
    counts = Counter(suffix for suffix, _ in split.values())
    if ".shp" in counts:
        counts = Counter({s: n for s, n in counts.items() if s not in _BESIDE_SHP})
    formats = {_BY_SUFFIX.get(suffix) for suffix in counts}
    if len(formats) > 1 or (None in formats and len(counts) > 1):
        raise _mixed(name, split, counts)
    suffix, found = next(iter(counts)), formats.pop()
    if found is not None:
        return found
    what = f"files ending in '{suffix}'" if suffix else "files without a suffix"
    key = f"reader: {_OFTEN[suffix]}" if suffix in _OFTEN else "format: csv"
    raise ReaderError(
        f"there is no reader for {what}, as '{name}' has them",
        hint=f"add `{key}` (or what fits) to '{name}' in the catalog",
    )


def _mixed(
    name: str, split: Mapping[Path, tuple[str, str]], counts: Mapping[str, int]
) -> ReaderError:
    listed = ", ".join(f"{n} {suffix or 'without a suffix'}" for suffix, n in counts.items())
    rarest = min(counts, key=lambda suffix: counts[suffix])
    example = next(path for path, (suffix, _) in split.items() if suffix == rarest)
    pattern = f"*{rarest}{split[example][1]}" if rarest else example.name
    return ReaderError(
        f"the files of '{name}' are of several formats: {listed}",
        hint=f'narrow its source, or leave some out: `exclude: ["{pattern}"]`',
    )
