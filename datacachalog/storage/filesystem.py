"""Any fsspec filesystem as a storage: the complete way to whatever no other serves better.

fsspec has no common way to conditions or history, so an object's identity (`identity` says
which) is compared before and after each read and write, and `versions` refuses.
"""

import copy
import os
import re
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blake3 import blake3

from datacachalog import globs, relpath
from datacachalog.errors import (
    AccessDeniedError,
    DatacachalogError,
    IntegrityError,
    ObjectChangedError,
    ObjectNotFoundError,
    SourceUnreachableError,
    StorageError,
    VersioningNotSupportedError,
)
from datacachalog.model import EPOCH, DeleteMarker, RemoteObject
from datacachalog.storage.base import (
    Advance,
    Precondition,
    StallGuard,
    Uploaded,
    check_precondition,
)
from datacachalog.storage.identity import STRONG, identity_of, in_utc, modified_of

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

PIECE = 1 << 20
"""How many bytes are asked for at a time."""

_SECRET = re.compile("pass|secret|token|key|cred|auth|user", re.IGNORECASE)


class FilesystemStorage:
    """What one fsspec filesystem reaches.

    `filesystem` is an instance, or the name by which fsspec knows one. An instance stays its
    owner's: used as it is, never configured or registered. `name` is what its objects are
    cached under; left out, the filesystem's kind and those of its options that say where it
    is (a host, a folder; nothing that is secret).

    >>> FilesystemStorage("memory").endpoint
    'memory'
    """

    def __init__(self, filesystem: "AbstractFileSystem | str", *, name: str | None = None) -> None:
        self._given = filesystem
        self._name = name
        self._own: dict[int, AbstractFileSystem] = {}
        if not isinstance(filesystem, str):
            self._own[os.getpid()] = filesystem

    @property
    def filesystem(self) -> "AbstractFileSystem":
        """Return the filesystem, as this process may use it. No lock: a fork might find it held."""
        pid = os.getpid()
        found = self._own.get(pid)
        return self._own.setdefault(pid, self._opened()) if found is None else found

    def _opened(self) -> "AbstractFileSystem":
        """Return a filesystem for this process, which did not get one or was forked."""
        if isinstance(self._given, str):
            import fsspec

            # Our own: what users get by that name keeps their settings and its cache.
            return fsspec.filesystem(
                self._given, use_listings_cache=False, skip_instance_cache=True
            )
        if self._given.async_impl:
            # Its loop and connections stayed in the parent: make it again from its options.
            return copy.deepcopy(self._given)
        return self._given

    @property
    def endpoint(self) -> str:
        """Name the server."""
        if self._name is None:
            self._name = self._given if isinstance(self._given, str) else _place(self._given)
        return self._name

    def scan(
        self,
        uri: str,
        *,
        known: Container[str] = frozenset(),  # noqa: ARG002 - the protocol's
        is_thorough: bool = False,  # noqa: ARG002 - the protocol's
    ) -> Iterator[RemoteObject]:
        """Return the object at `uri`, or what its glob matches, as it is now."""
        pattern = self._pattern(uri)
        if globs.is_glob(pattern):
            yield from self._listed(globs.Glob(pattern))
        else:
            yield self._found(globs.unescape(pattern))

    def versions(self, uri: str) -> Iterator[RemoteObject | DeleteMarker]:
        """Raise: fsspec has no common way to history."""
        raise self._no_history(uri)

    def version(self, uri: str, version_id: str) -> RemoteObject:  # noqa: ARG002 - the protocol's
        """Raise: fsspec has no common way to history."""
        raise self._no_history(uri)

    def read(self, obj: RemoteObject, start: int, stop: int) -> Iterator["memoryview | bytes"]:
        """Stream bytes `start` to `stop` (exclusive) of exactly `obj`, in order."""
        self._check_identity(obj)
        path = self._path_of(obj.uri)
        guard = StallGuard(obj.uri)
        at = start
        while at < stop:
            until = min(stop, at + PIECE)
            with translated(obj.uri):
                piece = self.filesystem.cat_file(path, start=at, end=until)
            guard.note(len(piece))
            at += len(piece)
            if not piece:
                raise ObjectChangedError(f"{obj.uri} became shorter while it was read")
            if at > until:
                raise IntegrityError(f"{obj.uri} gave more bytes than were asked for")
            if at == stop:
                # Before the last bytes are handed over: after them nobody asks again.
                self._check_identity(obj)
            yield piece

    def upload(
        self, path: Path, uri: str, *, precondition: RemoteObject | Precondition, advance: Advance
    ) -> Uploaded:
        """Write the file at `path` to `uri`, if just before `uri` is what `precondition` says."""
        target = globs.unescape(self._pattern(uri))
        try:
            before = self._found(target)
        except ObjectNotFoundError:
            before = None
        check_precondition(uri, precondition, before)
        with translated(uri):
            count = self._write(path, self._path_of(target), advance)
        after = self._found(target)
        if after.size != count:
            raise IntegrityError(f"{uri} has {after.size:,} bytes after an upload of {count:,}")
        if precondition is Precondition.ANYTHING:
            return Uploaded(after)
        return Uploaded(
            after,
            f"`{_scheme(uri)}://` has no conditional writes: a write to {uri} between the "
            "check and the upload would have been overwritten unnoticed",
        )

    def now(self) -> datetime:
        """Return this machine's clock: fsspec asks no server for its own."""
        return datetime.now(UTC)

    # --- what a subclass knows better -----------------------------------------------------

    def _pattern(self, uri: str) -> str:
        """Return the whole URI, or pattern of URIs, that a source means."""
        return uri

    def _found(self, uri: str) -> RemoteObject:
        """Return the object at `uri`; raise `ObjectNotFoundError` where there is none."""
        return self._described(uri, uri.rpartition("/")[2], self._info(uri))

    def _listed(self, glob: globs.Glob) -> Iterator[RemoteObject]:
        """Return what the glob matches; a folder that may not be listed is an error."""
        root = self._path_of(glob.fixed_prefix)
        base = root if not root or root.endswith("/") else f"{root}/"
        is_strong = not STRONG.keys().isdisjoint(self._protocols)
        for name, info in self._files_below(root, glob):
            below = name[len(base) :]
            uri = glob.fixed_prefix + below
            if not name.startswith(base) or not glob.matches(uri):
                continue
            if not info.get("size") and name.endswith("/"):
                continue  # a folder marker
            is_told = not is_strong or not identity_of(self._protocols, info).is_weak
            if info.get("size") is None or not is_told:
                info = self._info(uri)
            yield self._described(uri, below, info)

    def _files_below(self, root: str, glob: globs.Glob) -> Iterator[tuple[str, Mapping[str, Any]]]:
        with translated(glob.fixed_prefix):
            if _lists_at_once(self.filesystem):
                found = self.filesystem.find(root, detail=True)
                yield from ((name, info) for name, info in found.items() if info["type"] == "file")
            else:
                yield from _walk(self.filesystem, root, is_flat=glob.is_flat)

    def _no_history(self, uri: str) -> VersioningNotSupportedError:
        return VersioningNotSupportedError(f"{uri}: `{_scheme(uri)}://` keeps no history")

    # --- fsspec's own words -----------------------------------------------------------------

    @property
    def _protocols(self) -> tuple[str, ...]:
        """Return the names by which fsspec knows the filesystem."""
        names = self.filesystem.protocol
        return (names,) if isinstance(names, str) else tuple(names)

    def _path_of(self, uri: str) -> str:
        """Return what the filesystem calls `uri`; it may be reached under a scheme not its own."""
        scheme, _, rest = uri.partition("://")
        strip = self.filesystem._strip_protocol  # noqa: SLF001 - has no public name
        path: str = strip(uri if scheme in self._protocols else rest)
        # Objects of the web are called by their whole URIs, all others by a part.
        is_whole = path.startswith(f"{scheme}://") and scheme not in ("http", "https")
        return strip(rest) if is_whole else path

    def _info(self, uri: str) -> Mapping[str, Any]:
        with translated(uri):
            info: Mapping[str, Any] = self.filesystem.info(self._path_of(uri))
        if info["type"] != "file":
            raise ObjectNotFoundError(
                f"{uri} is a folder, not an object", hint=f"write `{globs.escape(uri)}/**`"
            )
        if info.get("size") is None:
            raise StorageError(f"{uri}: its filesystem does not tell the size")
        return info

    def _described(self, uri: str, below: str, info: Mapping[str, Any]) -> RemoteObject:
        modified = modified_of(info)
        if modified is None:
            with translated(uri), suppress(NotImplementedError):  # a filesystem without times
                modified = in_utc(self.filesystem.modified(self._path_of(uri)))
        identity = identity_of(self._protocols, info)
        # No version id: it would promise bytes that were overwritten since, and `read` cannot
        # ask for them.
        etag = identity.etag or identity.version_id
        return RemoteObject(uri, relpath.encode(below), int(info["size"]), modified or EPOCH, etag)

    def _check_identity(self, obj: RemoteObject) -> None:
        if not self._found(obj.uri).is_same_as(obj):
            raise ObjectChangedError(f"{obj.uri} changed since it was resolved")

    def _write(self, source: Path, target: str, advance: Advance) -> int:
        """Copy a file to the filesystem and return its size; what fails is given up whole."""
        count = 0
        with open(source, "rb", buffering=0) as file:
            # Without that, closing after a failure would leave the beginning as the object.
            out = self.filesystem.open(target, "wb", autocommit=False)
            try:
                while block := file.read(PIECE):
                    out.write(block)
                    count += len(block)
                    advance(len(block))
                out.close()
            except BaseException:
                out.discard()
                raise
            out.commit()
        return count


def _scheme(uri: str) -> str:
    return uri.partition("://")[0]


@contextmanager
def translated(uri: str) -> Iterator[None]:
    """Turn what fsspec and the system raise about `uri` into our errors."""
    is_local = uri.startswith("file://")
    try:
        yield
    except DatacachalogError:
        raise
    except FileNotFoundError as exc:
        kind = "file" if is_local else "object"
        raise ObjectNotFoundError(f"there is no {kind} at {uri}") from exc
    except PermissionError as exc:
        if is_local:
            raise AccessDeniedError(
                f"{uri} may not be accessed by this user",
                hint=f"`ls -l '{exc.filename}'` shows why",
            ) from exc
        raise AccessDeniedError(f"{uri} is missing or not permitted") from exc
    except (ConnectionError, TimeoutError) as exc:
        raise SourceUnreachableError(f"{uri}: {str(exc) or type(exc).__name__}") from exc
    except OSError as exc:
        raise StorageError(f"{uri}: {(is_local and exc.strerror) or exc}") from exc
    except NotImplementedError as exc:
        raise StorageError(f"{uri}: its filesystem cannot do that") from exc


def _lists_at_once(filesystem: "AbstractFileSystem") -> bool:
    """Tell whether a filesystem has a listing of its own of all that is below a folder.

    fsspec's goes from folder to folder, and leaves out what it cannot list without a word.
    """
    from fsspec import AbstractFileSystem
    from fsspec.asyn import AsyncFileSystem

    inner = getattr(filesystem, "fs", None)
    if isinstance(inner, AbstractFileSystem):
        return _lists_at_once(inner)
    kind = type(filesystem)
    if isinstance(filesystem, AsyncFileSystem):
        return kind._find is not AsyncFileSystem._find  # noqa: SLF001 - that is where it would be
    return kind.find is not AbstractFileSystem.find


def _walk(
    filesystem: "AbstractFileSystem", folder: str, *, is_flat: bool
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the files in a folder, and unless it `is_flat` those below; a link is its file.

    fsspec's own `walk` tells `on_error` of the first folder only, not of those below.
    """
    try:
        entries = filesystem.ls(folder, detail=True)
    except FileNotFoundError:
        return  # it never was, or is gone since its parent was listed
    for info in entries:
        name = info["name"]
        if info["type"] == "directory":
            if not is_flat and name.rstrip("/") != folder.rstrip("/"):
                yield from _walk(filesystem, name, is_flat=False)
        elif info["type"] == "file":
            yield name, info
        else:
            with suppress(FileNotFoundError):
                info = filesystem.info(name)
                if info["type"] == "file":
                    yield name, info


def _place(filesystem: "AbstractFileSystem") -> str:
    """Return a text that tells filesystems of one kind apart by where they are.

    That is what they were made with, as far as it is plain and not secret.
    """
    from inspect import signature as signature_of

    names = filesystem.protocol
    kind = names if isinstance(names, str) else names[0]
    signature = signature_of(type(filesystem).__init__)
    bound = signature.bind_partial(filesystem, *filesystem.storage_args).arguments
    given = {**bound, **filesystem.storage_options}
    given.pop(next(iter(signature.parameters)))
    options = [
        (name, _place(value) if hasattr(value, "storage_options") else repr(value))
        for name, value in sorted(given.items())
        if not _SECRET.search(name)
        and (isinstance(value, str | int | os.PathLike) or hasattr(value, "storage_options"))
    ]
    if not options:
        return kind
    return f"{kind}:{blake3(repr(options).encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"
