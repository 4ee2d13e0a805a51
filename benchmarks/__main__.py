"""`python -m benchmarks`: data, servers, clients in turn, and a table.

python -m benchmarks                       everything, five rounds
python -m benchmarks small large --rounds 9
python -m benchmarks --quick               a tenth of everything
python -m benchmarks --check               does the harness work? tiny, one round
python -m benchmarks --out benchmarks      keep results.txt, .json and .svg there
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from benchmarks import peers, picture, report
from benchmarks.buckets import Buckets
from benchmarks.measuring import FailedError, measure
from benchmarks.report import Result, Row
from benchmarks.scenarios import OURS, QUICK, SCENARIOS, TINY, Bench, Contest, Sizes
from benchmarks.servers.front import find_nginx, serving

_HERE = Path(__file__).parent

_LOOK = 0.5
"""Seconds between two looks whether the process that started `--serve` is still there."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run what was asked for, print and write the table; return the exit code."""
    options = _options(argv)
    # As an exception it passes through every `finally`: servers stop, the runs' folder goes.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if options.list:
        for name, scenario in SCENARIOS.items():
            sys.stdout.write(f"{name:<16}{(scenario.__doc__ or '').splitlines()[0]}\n")
        return 0
    if find_nginx() is None:
        sys.stderr.write("nginx is missing: `apt install nginx-light`\n")
        return 2
    if options.serve:
        return _serve(options)
    found, missing = peers.find_peers(
        options.peers, options.cache, installs=not (options.no_install or options.check)
    )
    versions = {OURS: _version(options.dcl)} | {peer.name: peer.version for peer in found}
    notes = [f"{name} {version}" for name, version in versions.items()]
    notes += [f"without {name}: {reason}" for name, reason in missing.items()]
    work = Path(tempfile.mkdtemp(prefix="run-", dir=_made(options.work or options.cache)))
    try:
        rows = []
        with serving(_made(options.cache / "data"), keeps_uploads=options.check) as servers:
            buckets = Buckets(options.cache / "data")
            bench = Bench(_sizes(options), buckets, servers, found, options.dcl, work)
            for row in _rows(bench, options.scenarios, options.rounds):
                rows.append(replace(row, goals=[]) if options.check else row)
                sys.stdout.write(report.text(rows[-1:], []))
                sys.stdout.flush()
    finally:
        shutil.rmtree(work, ignore_errors=True)
    _write(options, rows, notes, versions)
    sys.stdout.write("\n".join(notes) + "\n")
    return int(any(result.failure for row in rows for result in row.results))


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help="see --list")
    parser.add_argument("--list", action="store_true", help="list the scenarios")
    parser.add_argument("--serve", action="store_true", help="only serve, until stopped")
    parser.add_argument("--peers", default=",".join(peers.NAMES), help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="a tenth of everything, two rounds")
    size.add_argument("--check", action="store_true", help="tiny, one round, nothing installed")
    parser.add_argument("--dcl", type=os.path.abspath, help="our program, default: this venv's")
    parser.add_argument(
        "--cache", type=Path, default=_HERE / ".cache", help="for data and peers: %(default)s"
    )
    parser.add_argument("--work", type=Path, help="for the runs' output, default: the cache")
    parser.add_argument("--out", type=Path, help="where to keep the results, default: the cache")
    parser.add_argument("--no-install", action="store_true", help="leave out what is missing")
    options = parser.parse_args(argv)
    unknown = set(options.scenarios) - set(SCENARIOS)
    if unknown:
        parser.error(f"no scenario {', '.join(sorted(unknown))}; see --list")
    options.scenarios = options.scenarios or list(SCENARIOS)
    options.peers = [name for name in options.peers.split(",") if name]
    if strange := set(options.peers) - set(peers.NAMES):
        parser.error(f"no peer {', '.join(sorted(strange))}; there are {', '.join(peers.NAMES)}")
    options.dcl = options.dcl or str(Path(sys.executable).with_name("dcl"))
    if not os.path.exists(options.dcl):
        parser.error(f"there is no {options.dcl}; name our program with --dcl")
    options.cache = options.cache.absolute()
    options.rounds = (
        1 if options.check else min(2, options.rounds) if options.quick else options.rounds
    )
    return options


def _sizes(options: argparse.Namespace) -> Sizes:
    return TINY if options.check else QUICK if options.quick else Sizes()


def _serve(options: argparse.Namespace) -> int:
    """Serve the buckets of bodies and listings, and say where.

    Ends at Ctrl-C, at SIGTERM, and when the process that started it is gone.
    """
    parent = os.getppid()
    sizes = _sizes(options)
    buckets = Buckets(_made(options.cache / "data"))
    buckets = [
        buckets.bodies(*sizes.small),
        buckets.bodies(1, sizes.large),
        buckets.bodies(*sizes.medium),
        buckets.listed(sizes.many),
        buckets.versioned(sizes.versioned),
    ]
    with serving(options.cache / "data") as servers:
        sys.stdout.write(f"objects  {servers.plain}\ndelayed  {servers.delayed}\n")
        sys.stdout.write(f"uploads  {servers.uploads}\n")
        sys.stdout.write("".join(f"bucket   {bucket.name}\n" for bucket in buckets))
        sys.stdout.flush()
        with suppress(KeyboardInterrupt):
            while os.getppid() == parent:
                time.sleep(_LOOK)
    return 0


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _version(dcl: str) -> str:
    said = subprocess.run([dcl, "--version"], check=True, capture_output=True, text=True).stdout
    return said.split()[-1]


def _rows(bench: Bench, scenarios: Iterable[str], rounds: int) -> Iterator[Row]:
    for name in scenarios:
        sys.stderr.write(f"{name} …\n")
        try:
            made = SCENARIOS[name](bench)
            for contest in [made] if isinstance(made, Contest) else made:
                yield _held(name, contest, rounds)
        except FailedError as exc:
            yield Row(name, name, [Result(OURS, failure=str(exc))], [])


def _held(name: str, contest: Contest, rounds: int) -> Row:
    """Run all clients in turn, round by round: what disturbs one round disturbs all of them."""
    results = [Result(entry.name) for entry in contest.entries]
    for i in range(rounds * contest.rounds):
        contest.before()
        for entry, result in zip(contest.entries, results, strict=True):
            if result.failure or (entry.is_slow and i):
                result.samples.append(None)
                continue
            command = entry.prepare()
            os.sync()
            try:
                result.samples.append(measure(command))
            except FailedError as exc:
                result.failure = str(exc)
                result.samples.append(None)
            command.discard()
    return Row(name, contest.title, results, contest.goals)


def _write(
    options: argparse.Namespace, rows: Sequence[Row], notes: Sequence[str], versions: dict[str, str]
) -> None:
    out = _made(options.out or options.cache)
    (out / "results.txt").write_text(report.text(rows, notes))
    (out / "results.json").write_text(report.document(rows, notes, versions))
    (out / "results.svg").write_text(picture.draw(rows))


if __name__ == "__main__":
    sys.exit(main())
