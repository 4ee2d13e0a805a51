"""Where datasets land in the project, and which of them would meet there.

Paths are text, relative to the project root, normalised, with `/`: thousands are compared at
a load.
"""

import re
from collections.abc import Iterator, Mapping

from datacachalog.globs import unescape
from datacachalog.spec.models import Dataset, DataSettings, FieldError
from datacachalog.uri import fixed_folder, scheme_of, split

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def landing(dataset: Dataset, data: DataSettings) -> str:
    """Return the dataset's folder.

    Its `path`, else `<dir>/<name>`; with `layout: source` the folder of its key instead of
    the name. Local sources have no bucket to mirror and keep their name.

    >>> landing(Dataset(name="x", source="s3://lake/a/b.csv"), DataSettings())
    'data/x'
    >>> landing(Dataset(name="x", source="s3://lake/a/b.csv"), DataSettings(layout="source"))
    'data/a'
    """
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


def claim(dataset: Dataset, data: DataSettings) -> str:
    """Return what the dataset takes for itself: its file if it is one object, else its folder."""
    folder = landing(dataset, data)
    if not dataset.is_single:
        return folder
    name = unescape(split(dataset.sources[0])[2]).rpartition("/")[2]
    return folder if name == "." else _below(folder, name)


def _below(folder: str, name: str) -> str:
    """Join two paths, of which the second may be empty."""
    if folder == ".":
        return name or folder
    return f"{folder}/{name}" if name else folder


def _is_plain_folder(folder: str) -> bool:
    parts = folder.split("/") if folder else []
    return not _CONTROL.search(folder) and all(
        part not in ("", ".", "..") and "\\" not in part and len(part.encode()) <= 255
        for part in parts
    )


def collisions(claims: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield each dataset that would stand on, or inside, files of one before it, and why.

    `claims` maps names to what they claim. Of two that meet, the later one is yielded.
    """
    order = {name: index for index, name in enumerate(claims)}
    # Some file systems do not tell upper from lower case.
    parts = {name: path.casefold().split("/") for name, path in claims.items()}
    above: list[str] = []
    for name in sorted(claims, key=parts.__getitem__):
        while above and parts[name][: len(parts[above[-1]])] != parts[above[-1]]:
            above.pop()
        if above:
            outer = above[-1]
            later = max(name, outer, key=order.__getitem__)
            yield later, _collision(outer, claims[outer], name, claims[name])
        above.append(name)


def _collision(outer: str, outer_path: str, name: str, path: str) -> str:
    if path == outer_path:
        return f"the datasets {outer!r} and {name!r} would both land on {path}"
    if path.count("/") == outer_path.count("/"):
        return (
            f"the datasets {outer!r} and {name!r} would land on {outer_path} and {path}, "
            "which differ only in case"
        )
    return f"the dataset {name!r} would land on {path}, inside {outer_path} of {outer!r}"
