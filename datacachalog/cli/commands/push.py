"""Commands that change the remote, or what is known of it: push, invalidate."""

from typing import Annotated

from cyclopts import Parameter

from datacachalog.catalog import load_catalog
from datacachalog.cli import exits
from datacachalog.cli.app import UsageError
from datacachalog.cli.documents import instant
from datacachalog.cli.options import DEFAULTS, Force, Here, Json, Name, Options, SomeNames
from datacachalog.cli.progress import watch
from datacachalog.cli.visible import plural
from datacachalog.spec.units import format_duration, format_size


def push(
    name: Name,
    file: Annotated[str, Parameter(name="FILE", help="The new content; it stays as it is")],
    /,
    *,
    force: Force = False,
    json: Json = False,
    options: Options = DEFAULTS,
    terminal: Here,
) -> int:
    """Upload a file as a dataset's new content.

    Refused for globs, pins and datasets without `push: true`. If the remote changed since it
    was last fetched, nothing is uploaded; --force overrides that.
    """
    with watch(terminal, 1) as report:
        catalog = load_catalog(options.catalog)
        result = catalog.push(name, file, force=force, report=report)
    obj = result.object
    if json:
        body = {
            "name": name,
            "uri": obj.uri,
            "size": obj.size,
            "etag": obj.etag,
            "version_id": obj.version_id,
            "modified": instant(obj.modified),
            "unproven": result.unproven,
            "locked": result.is_locked,
            "seconds": round(result.seconds, 3),
        }
        terminal.document("push", body)
    if result.unproven:
        terminal.warn(result.unproven)
    took = format_duration(result.seconds)
    terminal.note(f"{name}: uploaded to {obj.uri} ({format_size(obj.size)} in {took})")
    if result.is_locked:
        terminal.note(f"{catalog.lock_file.name}: moved '{name}' to what was uploaded")
    return exits.DONE


def invalidate(*names: SomeNames, options: Options = DEFAULTS, terminal: Here) -> int:
    """Drop datasets from the cache, so that they download anew.

    The files in place stay until the next sync has the new ones.
    """
    if not names:
        raise UsageError("`dcl invalidate` needs the names of datasets", hint="see `dcl list`")
    catalog = load_catalog(options.catalog)
    for name in dict.fromkeys(names):
        count = catalog.invalidate(name)
        terminal.note(f"{name}: {plural(count, 'file')} will download anew with `dcl sync {name}`")
    return exits.DONE


def invalidate_glob(
    name: Name,
    pattern: Annotated[
        str, Parameter(name="PATTERN", help="Which files, as in `exclude`: '2026/**', '*.csv'")
    ] = "**",
    /,
    *,
    options: Options = DEFAULTS,
    terminal: Here,
) -> int:
    """Drop some files of a dataset from the cache.

    As `dcl invalidate`, for the files whose path below the dataset's folder matches.
    """
    count = load_catalog(options.catalog).invalidate_glob(name, pattern)
    terminal.note(f"{name}: {plural(count, 'file')} will download anew with `dcl sync {name}`")
    return exits.DONE
