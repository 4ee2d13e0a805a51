"""Commands that look closely: show, verify, doctor."""

from datetime import UTC, datetime

from datacachalog.catalog import load_catalog
from datacachalog.cli import exits
from datacachalog.cli.console import Terminal
from datacachalog.cli.documents import dataset_document
from datacachalog.cli.json import status_document, verification_document
from datacachalog.cli.opening import pick, read_catalog
from datacachalog.cli.options import (
    DEFAULTS,
    Here,
    Jobs,
    Json,
    Name,
    Names,
    Offline,
    Options,
)
from datacachalog.cli.progress import watch
from datacachalog.cli.showing import shown_path, shown_source
from datacachalog.cli.states import changes
from datacachalog.cli.visible import plural, visible
from datacachalog.doctor import Check, Verdict, examine
from datacachalog.errors import NotFetchedError
from datacachalog.model import Latest
from datacachalog.spec.landing import landing
from datacachalog.spec.loader import LoadedCatalog
from datacachalog.spec.models import Dataset
from datacachalog.spec.units import format_age, format_duration, format_size
from datacachalog.sync.results import DatasetStatus, Freshness, Verification

_MANY = 20
"""Bad files shown per dataset, unless `--verbose`."""


def show(
    name: Name,
    /,
    *,
    json: Json = False,
    options: Options = DEFAULTS,
    terminal: Here,
) -> int:
    """Show all about one dataset.

    What the catalog says of it, with defaults merged, and what is on disk. Asks no network.
    """
    loaded = read_catalog(options.catalog)
    dataset = pick(loaded, [name])[0]
    state = load_catalog(loaded.path).status(name, offline=True)[0]
    if json:
        on_disk = status_document(state) if _is_here(state) else None
        body = {**dataset_document(dataset, loaded), "on_disk": on_disk}
        terminal.document("dataset", body)
        return exits.DONE
    facts = [(term, text) for term, text in _facts(dataset, loaded, state) if text]
    width = max(len(term) for term, _ in facts)
    for term, text in facts:
        terminal.out.line(f"{terminal.out.paint(term.ljust(width), 'dim')}  {visible(text)}")
    return exits.DONE


def _facts(dataset: Dataset, catalog: LoadedCatalog, state: DatasetStatus) -> list[tuple[str, str]]:
    """Return what is worth a line about a dataset; an empty text is none."""
    checksum = dataset.checksum
    return [
        ("name", dataset.name),
        ("description", dataset.description or ""),
        ("owner", dataset.owner or ""),
        ("tags", ", ".join(dataset.tags)),
        *(("source", shown_source(source, catalog.root)) for source in dataset.sources),
        ("exclude", ", ".join(dataset.exclude)),
        ("as of", "" if isinstance(dataset.pin, Latest) else str(dataset.pin)),
        ("storage", dataset.storage or ""),
        ("lands in", shown_path(catalog.root / landing(dataset, catalog.data))),
        ("format", dataset.format or ""),
        ("reader", dataset.reader or ""),
        ("read args", _pairs(dataset.read_args)),
        ("checksum", checksum if isinstance(checksum, str) else _pairs(checksum or {})),
        ("push", "allowed" if dataset.push else ""),
        ("if empty", "accepted" if dataset.allow_empty else ""),
        ("if unreachable", "an error" if dataset.on_stale == "error" else ""),
        ("trusted for", format_duration(dataset.max_age) if dataset.max_age else ""),
        ("metadata", _pairs(dataset.metadata)),
        ("declared in", catalog.declared.get(dataset.name, "")),
        ("on disk", _on_disk(state)),
        ("identity", "weak" if _is_weak(state) else ""),
    ]


def _is_weak(state: DatasetStatus) -> bool:
    """Tell whether a change of the source may go unseen: only size and time identify a file."""
    return state.plan is not None and any(o.is_weak for o in state.plan.resolution.objects)


def _pairs(values: object) -> str:
    return ", ".join(f"{key}: {value}" for key, value in dict(values).items())  # type: ignore[call-overload]


def _is_here(state: DatasetStatus) -> bool:
    return state.checked is not None or state.freshness not in (Freshness.MISSING, Freshness.ERROR)


def _on_disk(state: DatasetStatus) -> str:
    locked = "locked; " if state.is_locked else ""
    if not _is_here(state):
        return f"{locked}not fetched"
    age = (
        "" if state.checked is None else f", checked {format_age(state.checked, datetime.now(UTC))}"
    )
    if state.error is not None:
        return f"{age.removeprefix(', ')}; {state.error}"
    rest = changes(state)
    size = f"{locked}{plural(state.files, 'file')}, {format_size(state.size)}{age}"
    return f"{size}; {rest}" if rest else size


def verify(
    *names: Names,
    jobs: Jobs = None,
    json: Json = False,
    options: Options = DEFAULTS,
    terminal: Here,
) -> int:
    """Hash the files here once more.

    Compares every byte on disk with what was put there, and exits with 3 if any differs.
    Asks no network.
    """
    catalog = load_catalog(options.catalog)
    wanted = tuple(dict.fromkeys(names))
    with watch(terminal, len(wanted or catalog.datasets)) as report:
        verdicts = catalog.verify(*wanted, jobs=jobs, report=report)
    if not wanted:
        # Nobody asked for those that are not here.
        verdicts = [v for v in verdicts if not isinstance(v.error, NotFetchedError)]
    if json:
        body = {"datasets": [verification_document(verdict) for verdict in verdicts]}
        terminal.document("verification", body)
    else:
        _show_verdicts(verdicts, terminal)
    if any(verdict.bad for verdict in verdicts):
        return exits.VERDICT
    return exits.FAILED if any(verdict.error for verdict in verdicts) else exits.DONE


def _show_verdicts(verdicts: list[Verification], terminal: Terminal) -> None:
    for verdict in verdicts:
        shown = verdict.bad if terminal.verbose else verdict.bad[:_MANY]
        terminal.data(visible(f"{verdict.name}/{bad.relpath}: {bad.reason}") for bad in shown)
        if hidden := len(verdict.bad) - len(shown):
            terminal.note(f"{verdict.name}: {plural(hidden, 'more bad file')} (`-v` shows all)")
    for verdict in verdicts:
        if verdict.error is not None:
            terminal.error(f"{verdict.name}: {verdict.error}", verdict.error.hint)
    bad = [verdict.name for verdict in verdicts if verdict.bad]
    files = sum(verdict.files for verdict in verdicts)
    size = format_size(sum(verdict.size for verdict in verdicts))
    terminal.note(
        f"{plural(files, 'file')} hashed, "
        f"{sum(len(verdict.bad) for verdict in verdicts):,} bad ({size})"
    )
    if bad:
        terminal.error(
            f"{plural(len(bad), 'dataset')} with bad files",
            hint=f"move the bad files away, then run `dcl sync {' '.join(bad)}`",
        )


_LABELS = {
    Verdict.FACT: ("  ", "dim"),
    Verdict.GOOD: ("ok", "green"),
    Verdict.DOUBT: ("??", "yellow"),
    Verdict.BAD: ("no", "bold red"),
}


def doctor(
    *names: Names,
    offline: Offline = False,
    json: Json = False,
    options: Options = DEFAULTS,
    terminal: Here,
) -> int:
    """Say what is in effect, and what is wrong.

    Endpoint, identity and region of each storage, cache folder, link kind and free space.
    Asks each storage for one listing, unless `--offline`. Shows no secrets; exits with 3 if
    something is wrong.
    """
    checks = examine(options.catalog, tuple(dict.fromkeys(names)), offline=offline)
    if json:
        terminal.document("diagnosis", {"checks": [_check_document(check) for check in checks]})
    else:
        _show_checks(checks, terminal)
    return exits.VERDICT if any(c.verdict is Verdict.BAD for c in checks) else exits.DONE


def _check_document(check: Check) -> dict[str, str | None]:
    return {
        "subject": check.subject,
        "topic": check.topic,
        "verdict": check.verdict.value,
        "finding": check.finding,
        "hint": check.hint,
    }


def _show_checks(checks: list[Check], terminal: Terminal) -> None:
    width = max(len(check.topic) for check in checks)
    subject = None
    for check in checks:
        if check.subject != subject:
            subject = check.subject
            terminal.data([terminal.out.paint(visible(subject), "bold")])
        label, style = _LABELS[check.verdict]
        line = f"  {terminal.out.paint(label, style)}  {check.topic.ljust(width)}  "
        terminal.out.line(line + visible(check.finding))
        if check.hint:
            terminal.out.line(f"{' ' * (width + 8)}hint: {visible(check.hint)}")
