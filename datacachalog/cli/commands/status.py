"""The command that compares what is here with the sources.

Apart from the other checks, which read the catalog and so load all that it takes.
"""

from typing import Annotated

from cyclopts import Parameter

from datacachalog.catalog import load_catalog
from datacachalog.cli import exits
from datacachalog.cli.json import status_document
from datacachalog.cli.modes import lock_mode
from datacachalog.cli.options import (
    DEFAULTS,
    AsOf,
    Frozen,
    Here,
    Jobs,
    Json,
    Locked,
    Names,
    NoLock,
    Offline,
    Options,
    Refresh,
)
from datacachalog.cli.progress import watch
from datacachalog.cli.states import show_states
from datacachalog.sync.results import Freshness


def status(
    *names: Names,
    check: Annotated[
        bool,
        Parameter(name="--check", help="Exit with 3 if anything is not up to date"),
    ] = False,
    refresh: Refresh = False,
    offline: Offline = False,
    as_of: AsOf = None,
    locked: Locked = False,
    frozen: Frozen = False,
    no_lock: NoLock = False,
    jobs: Jobs = None,
    json: Json = False,
    options: Options = DEFAULTS,
    terminal: Here,
) -> int:
    """Compare what is here with the source.

    Changes nothing. Says for each dataset whether it is up to date, and what a sync would do.
    """
    mode = lock_mode(locked=locked, frozen=frozen, no_lock=no_lock)
    catalog = load_catalog(options.catalog, lock_mode=mode)
    wanted = tuple(dict.fromkeys(names))
    with watch(terminal, len(wanted or catalog.datasets)) as report:
        states = catalog.status(
            *wanted, as_of=as_of, refresh=refresh, offline=offline, jobs=jobs, report=report
        )
    if json:
        terminal.document("status", {"datasets": [status_document(state) for state in states]})
    else:
        show_states(states, terminal)
    if any(state.error is not None for state in states):
        return exits.FAILED
    is_current = all(state.freshness is Freshness.UP_TO_DATE for state in states)
    return exits.VERDICT if check and not is_current else exits.DONE
