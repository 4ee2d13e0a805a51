"""The table of formats: which suffixes mean them, and which functions read them.

The readers of a format stand in order of preference: the first whose library is installed
is taken. A new format is a row here.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datacachalog.errors import ReaderError
from datacachalog.suggest import did_you_mean


@dataclass(frozen=True, slots=True)
class Reader:
    """A function that reads a format, by its full name; the path is its first argument.

    `unpacks` are the compressions that it undoes by itself: those that were tried, because
    some give rubbish without an error (polars an empty table for `.csv.bz2`, pyarrow one of
    noise for `.csv.xz`). One that `takes_many` makes a single table of a list of paths.
    """

    function: str
    unpacks: frozenset[str] = frozenset()
    takes_many: bool = False
    args: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def library(self) -> str:
        """Return the top-level package that has to be installed."""
        return self.function.partition(".")[0]


@dataclass(frozen=True, slots=True)
class Format:
    """One format; `companions` are suffixes of files that lie beside it and are not read."""

    name: str
    suffixes: tuple[str, ...]
    readers: tuple[Reader, ...]
    companions: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Batch:
    """Files of one format, in the order given, and how they are compressed."""

    format: Format
    paths: tuple[Path, ...]
    packings: frozenset[str]


_GZ_ZST = frozenset({".gz", ".zst"})
_PANDAS = frozenset({".gz", ".bz2", ".xz", ".zip"})
_PYARROW = frozenset({".gz", ".bz2", ".zst", ".lz4"})
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
        (
            Reader("polars.read_json", frozenset({".gz"})),
            Reader("pandas.read_json", _PANDAS),
        ),
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
    Format("text", (".txt", ".md"), (Reader("datacachalog.readers.plain.read_text"),)),
    Format("bytes", (), (Reader("datacachalog.readers.plain.read_bytes"),)),
)

COMPRESSIONS = frozenset({".gz", ".bz2", ".xz", ".zip", ".zst", ".lz4"})

_BY_SUFFIX = {suffix: format_ for format_ in FORMATS for suffix in format_.suffixes}
_BY_NAME = {suffix.removeprefix("."): format_ for suffix, format_ in _BY_SUFFIX.items()} | {
    format_.name: format_ for format_ in FORMATS
}
_OFTEN = {
    ".xlsx": "pandas.read_excel",
    ".xls": "pandas.read_excel",
    ".orc": "pandas.read_orc",
    ".h5": "pandas.read_hdf",
    ".avro": "polars.read_avro",
    ".npy": "numpy.load",
    ".npz": "numpy.load",
    ".nc": "xarray.open_dataset",
    ".tif": "rasterio.open",
    ".tiff": "rasterio.open",
}


def identify(name: str, format_name: str | None, paths: Sequence[Path]) -> Batch:
    """Return the files of dataset `name` as one batch: of the format named, else by suffix.

    Raises `ReaderError` for a format or suffix that is not in the table, and for files of
    several formats.
    """
    split = {path: _split_suffix(path) for path in paths}
    format_ = _named(name, format_name) if format_name else _by_suffixes(name, split)
    kept = [path for path in paths if split[path][0] not in format_.companions]
    return Batch(format_, tuple(kept), frozenset(split[path][1] for path in kept) - {""})


def _split_suffix(path: Path) -> tuple[str, str]:
    """Return suffix and compression, in lower case: `.csv` and `.gz` for `A.CSV.gz`."""
    stem, packing = path.name.lower(), ""
    for known in COMPRESSIONS:
        if stem.endswith(known):
            stem, packing = stem.removesuffix(known), known
    return Path(stem).suffix, packing


def _named(name: str, format_name: str) -> Format:
    found = _BY_NAME.get(format_name.lower().removeprefix("."))
    if found is None:
        known = ", ".join(format_.name for format_ in FORMATS)
        raise ReaderError(
            f"there is no reader for the format '{format_name}' of '{name}'",
            hint=did_you_mean(format_name, _BY_NAME)
            or f"use one of {known}; or set `reader:` to a function's full name",
        )
    return found


def _by_suffixes(name: str, split: Mapping[Path, tuple[str, str]]) -> Format:
    counts = Counter(suffix for suffix, _ in split.values())
    if ".shp" in counts:
        counts = Counter({s: n for s, n in counts.items() if s not in _BESIDE_SHP})
    formats = {_BY_SUFFIX.get(suffix) for suffix in counts}
    if len(formats) > 1 or (None in formats and len(counts) > 1):
        raise _mixed(name, split, counts)
    suffix = next(iter(counts))
    found = formats.pop()
    if found is None:
        what = f"files ending in '{suffix}'" if suffix else "files without a suffix"
        function = _OFTEN.get(suffix)
        hint = f"add `reader: {function}`" if function else "add `format: csv`"
        raise ReaderError(
            f"there is no reader for {what}, as '{name}' has them",
            hint=f"{hint} (or what fits) to '{name}' in the catalog",
        )
    return found


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
