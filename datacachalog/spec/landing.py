"""What follows from a valid dataset: its sources, its pin, and where it lands.

Shared by the models of `spec` and by what `kept` brings back without them, so it needs no
pydantic. Knows no files, no environment and no network.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Protocol, Self

from datacachalog.checksums import Checksum
from datacachalog.errors import DatacachalogError, InvalidValueError
from datacachalog.globs import is_glob, unescape
from datacachalog.model import Ago, AsOf, Latest, VersionId
from datacachalog.spec.units import parse_pin
from datacachalog.uri import fixed_folder, resolve_local, scheme_of, split

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
FORMAT_VERSION = 1
CATALOG_KEYS = (
    *("version", "as_of", "include", "data", "cache", "storages", "defaults", "datasets"),
)
"""What stands at the top of a catalog: the fields of `spec.CatalogSpec`."""

SECRETS = ("key", "secret", "token", "sse_customer_key")
"""What a storage's settings take from the environment only."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class FieldError(InvalidValueError):
    """A rule between several keys is broken; `key` is the one to point at."""

    def __init__(self, message: str, *, key: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.key = key


class ItemsError(InvalidValueError):
    """Several items of one value are wrong; `items` pairs each index or key with its error."""

    def __init__(self, items: Sequence[tuple[str | int, DatacachalogError]]) -> None:
        super().__init__("; ".join(error.message for _, error in items), hint=items[0][1].hint)
        self.items = tuple(items)


def check_name(value: object) -> str:
    """Return the name of a dataset, storage or catalog if it is one."""
    if not isinstance(value, str) or not re.fullmatch(NAME_PATTERN, value):
        raise InvalidValueError(
            f"{value!r} is not a name",
            hint="use letters, digits, `_`, `-` and `.`, beginning with a letter or a digit",
        )
    return value


class DatasetRules:
    """What a dataset's fields mean together; the fields are those of `spec.Dataset`."""

    if TYPE_CHECKING:
        # As the models have them; here they would become fields of the models.
        name: str
        source: str | Sequence[str]
        path: str | None
        as_of: str | int | date | datetime | timedelta | Latest | AsOf | Ago | None
        version_id: str | None
        checksum: str | Mapping[str, str] | None

    @property
    def sources(self) -> tuple[str, ...]:
        """Return the sources as a tuple, also where there is one."""
        return (self.source,) if isinstance(self.source, str) else tuple(self.source)

    @property
    def pin(self) -> Latest | AsOf | Ago | VersionId:
        """Return the pin that `as_of` and `version_id` mean together."""
        if self.version_id is not None:
            return VersionId(self.version_id)
        return Latest() if self.as_of is None else parse_pin(self.as_of)

    @property
    def is_glob(self) -> bool:
        """Tell whether any source is a pattern."""
        return any(is_glob(source) for source in self.sources)

    @property
    def is_single(self) -> bool:
        """Tell whether the dataset is one object: one source, no pattern."""
        return isinstance(self.source, str) and not is_glob(self.source)

    @property
    def is_pinned(self) -> bool:
        """Tell whether the dataset stands still or lags, instead of following the latest."""
        return not isinstance(self.pin, Latest)

    def checksum_of(self, relpath: str) -> Checksum | None:
        """Return what the file at `relpath` must hash to, or None if nothing is demanded."""
        text = self.checksum
        if isinstance(text, Mapping):
            text = text.get(relpath)
        if text is None:
            return None
        algorithm, _, digest = text.partition(":")
        return Checksum(algorithm, digest)

    def with_resolved_paths(self, root: Path) -> Self:
        """Return the dataset with every local source as `file://` and an absolute path.

        Relative sources are relative to `root`, and `~/` is the user's home.

        >>> from datacachalog import Dataset
        >>> Dataset(name="x", source="in/*.csv").with_resolved_paths(Path("/work")).source
        'file:///work/in/*.csv'
        """
        resolved = tuple(resolve_local(source, root) for source in self.sources)
        if resolved == self.sources:
            return self
        source = resolved[0] if isinstance(self.source, str) else resolved
        return self.with_source(source)

    def with_source(self, source: str | Sequence[str]) -> Self:
        """Return the same with another source, which is valid."""
        raise NotImplementedError


# --- where datasets land ------------------------------------------------------------


class Layout(Protocol):
    """Where datasets land in the project: `spec.DataSettings`."""

    @property
    def dir(self) -> str:
        """Return the folder that holds the datasets' own."""
        ...

    @property
    def layout(self) -> str:
        """Return `name` or `source`."""
        ...


def landing(dataset: DatasetRules, data: Layout) -> PurePosixPath:
    """Return the dataset's folder, relative to the project root.

    Its `path`, else `<dir>/<name>`; with `layout: source` the folder of its key instead of
    the name. Local sources have no bucket to mirror and keep their name.

    >>> from datacachalog import Dataset, DataSettings
    >>> str(landing(Dataset(name="x", source="s3://lake/a/b.csv"), DataSettings()))
    'data/x'
    >>> str(landing(Dataset(name="x", source="s3://lake/a/b.csv"), DataSettings(layout="source")))
    'data/a'
    """
    return PurePosixPath(_landing(dataset, data))


def _landing(dataset: DatasetRules, data: Layout) -> str:
    """Return the dataset's folder as text, which costs a tenth of a path."""
    if dataset.path is not None:
        return dataset.path
    if data.layout == "name" or scheme_of(dataset.sources[0]) == "file":
        return _below(data.dir, dataset.name)
    folders = {fixed_folder(split(source)[2]) for source in dataset.sources}
    folder = folders.pop()
    if folders or not _is_plain_folder(folder):
        raise FieldError(
            f"`layout: source` cannot mirror the sources of {dataset.name!r}",
            key="source",
            hint=f"add `path: {data.dir}/{dataset.name}`",
        )
    return _below(data.dir, folder)


def _below(folder: str, name: str) -> str:
    """Join two normalised relative paths, of which the second may be empty."""
    if folder == ".":
        return name or folder
    return f"{folder}/{name}" if name else folder


def _is_plain_folder(folder: str) -> bool:
    parts = folder.split("/") if folder else []
    return not _CONTROL.search(folder) and all(
        part not in ("", ".", "..") and "\\" not in part and len(part.encode()) <= 255
        for part in parts
    )


def claim(dataset: DatasetRules, data: Layout) -> PurePosixPath:
    """Return what the dataset takes for itself: its file if it is one object, else its folder."""
    return PurePosixPath(claim_text(dataset, data))


def claim_text(dataset: DatasetRules, data: Layout) -> str:
    """Return the same as text, for the thousands of datasets that are compared at a load."""
    folder = _landing(dataset, data)
    if not dataset.is_single:
        return folder
    name = unescape(split(dataset.sources[0])[2]).rpartition("/")[2]
    return folder if name == "." else _below(folder, name)
