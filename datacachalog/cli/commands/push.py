"""The command that uploads: push."""

from typing import Annotated

from cyclopts import Parameter

from datacachalog.catalog import load_catalog
from datacachalog.cli.app import Exit, GlobalOptions, Here
from datacachalog.cli.json import instant
from datacachalog.cli.options import Json, Name
from datacachalog.cli.progress import watch
from datacachalog.spec.units import format_duration, format_size


def push(
    name: Name,
    file: Annotated[str, Parameter(name="FILE", help="The new content; it stays as it is")],
    /,
    *,
    force: Annotated[bool, Parameter(name="--force", help="Do it all the same")] = False,
    json: Json = False,
    options: GlobalOptions = GlobalOptions(),
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
    return Exit.DONE
