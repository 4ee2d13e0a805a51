"""Commands that check: verify hashes what is here, doctor looks at what a sync depends on."""

from datacachalog.catalog import load_catalog
from datacachalog.cli.app import Exit, GlobalOptions, Here, show_errors
from datacachalog.cli.console import Terminal
from datacachalog.cli.json import verification_document
from datacachalog.cli.options import Jobs, Json, Names, Offline
from datacachalog.cli.progress import watch
from datacachalog.cli.visible import plural, visible
from datacachalog.doctor import Check, Verdict, examine
from datacachalog.errors import NotFetchedError
from datacachalog.spec.units import format_size
from datacachalog.sync.results import Verification

_MANY = 20
"""Bad files shown per dataset, unless `--verbose`."""


def verify(
    *names: Names,
    jobs: Jobs = None,
    json: Json = False,
    options: GlobalOptions = GlobalOptions(),
    terminal: Here,
) -> int:
    """Hash the files here once more.

    Compares every byte on disk with what was put there, and exits with 3 if any differs.
    Asks no network.
    """
    catalog = load_catalog(options.catalog)
    with watch(terminal, len(set(names) or catalog.datasets)) as report:
        verdicts = catalog.verify(*names, jobs=jobs, report=report)
    if not names:
        # Nobody asked for those that are not here.
        verdicts = [v for v in verdicts if not isinstance(v.error, NotFetchedError)]
    if json:
        body = {"datasets": [verification_document(verdict) for verdict in verdicts]}
        terminal.document("verification", body)
    else:
        _show_verdicts(verdicts, terminal)
    if any(verdict.bad for verdict in verdicts):
        return Exit.VERDICT
    return Exit.FAILED if any(verdict.error for verdict in verdicts) else Exit.DONE


def _show_verdicts(verdicts: list[Verification], terminal: Terminal) -> None:
    for verdict in verdicts:
        shown = verdict.bad if terminal.verbose else verdict.bad[:_MANY]
        terminal.data(visible(f"{verdict.name}/{bad.relpath}: {bad.reason}") for bad in shown)
        if hidden := len(verdict.bad) - len(shown):
            terminal.note(f"{verdict.name}: {plural(hidden, 'more bad file')} (`-v` shows all)")
    show_errors({v.name: v.error for v in verdicts if v.error is not None}, terminal)
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
    options: GlobalOptions = GlobalOptions(),
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
    return Exit.VERDICT if any(c.verdict is Verdict.BAD for c in checks) else Exit.DONE


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
