"""`dcl demo`: a walk through the tool, on an S3 of its own and in a folder of its own.

Scenes are played in order; each runs real commands in processes of their own, and prints
each command before its output. Nothing outside the demo's folder is read or written.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from datacachalog.cli.app import Exit, GlobalOptions, Here
from datacachalog.cli.console import DEFAULT_WIDTH, Cell, Column, Terminal, render_table
from datacachalog.cli.demo_server import DemoBucket, serve_bucket
from datacachalog.errors import DatacachalogError

BUCKET = "acme-lake"
PATIENCE = 2.0
"""Seconds that an interrupted command has to end."""

_CATALOG = """\
storages:
  lake:
    endpoint_url: {endpoint}   # yours is Amazon's, or any other S3
    key: ${{LAKE_KEY:-demo}}                 # secrets stand in the environment
    secret: ${{LAKE_SECRET:-demo}}
defaults: {{storage: lake}}
datasets:
  customers: s3://{bucket}/customers/current.csv   # one object
  orders:
    description: Orders, one file a month
    source: s3://{bucket}/orders/**/*.csv          # all that match, in folders
  forecast:
    source: s3://{bucket}/forecast/latest.csv
    push: true                                     # `dcl push` may replace it
"""


def demo(
    *,
    keep: Annotated[
        bool,
        Parameter(name="--keep", help="Keep the folder, and at a terminal the server until Ctrl-C"),
    ] = False,
    options: GlobalOptions = GlobalOptions(),
    terminal: Here,
) -> int:
    """Walk through it all, on an S3 server of its own.

    Starts a server on this machine, puts a small data lake into it, and plays in a new
    temporary folder: sync, a change at the source, status, sync, push, then versions, a lock,
    and a fresh checkout. Takes some seconds, needs no network and no account, and removes
    everything at the end.
    """
    with ExitStack() as cleanup:
        bucket = cleanup.enter_context(serve_bucket(BUCKET))
        folder = Path(tempfile.mkdtemp(prefix="dcl-demo-"))
        if not keep:
            cleanup.callback(shutil.rmtree, folder)
        stage = Stage(terminal, options, bucket, folder)
        stage.project.mkdir()
        for number, (title, play) in enumerate(SCENES.items(), 1):
            stage.heading(f"{number}. {title}")
            play(stage)
        _say_what_next(stage)
        if keep:
            _stay(stage)
    if not keep:
        stage.say(f"All of this was in {folder}, which is gone now; `dcl demo --keep` keeps it.")
    return Exit.DONE


@dataclass(frozen=True, slots=True)
class Stage:
    """Where scenes play: what they say, what they run, and what happens at the source.

    `place` is the project's folder and has a cache of its own, like another machine.
    """

    terminal: Terminal
    options: GlobalOptions
    bucket: DemoBucket
    folder: Path
    place: str = "acme"

    @property
    def project(self) -> Path:
        """Return the folder of the catalog, in which commands run."""
        return self.folder / self.place

    def heading(self, text: str) -> None:
        """Begin a scene."""
        out = self.terminal.out
        out.line(f"\n{out.paint(text, 'bold')}")

    def say(self, text: str) -> None:
        """Tell something in a paragraph of its own."""
        width = min(self.terminal.out.width or DEFAULT_WIDTH, DEFAULT_WIDTH)
        lines = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
        self.terminal.data(["", *lines])

    def prompt(self, command: str) -> None:
        """Show a command as it is typed."""
        out = self.terminal.out
        out.line(f"\n{out.paint('$', 'dim')} {out.paint(command, 'bold cyan')}")
        self.terminal.flush()

    def show(self, file: str) -> None:
        """Show a file of the project."""
        self.prompt(f"cat {file}")
        self.terminal.data((self.project / file).read_text(encoding="utf-8").splitlines())

    def dcl(self, *words: str, expect: int = Exit.DONE) -> None:
        """Run a command as a user would; both of its streams go where this one's output goes."""
        self.prompt(f"dcl {' '.join(words)}")
        with ExitStack() as cleanup:
            with _interrupts_held():
                process = subprocess.Popen(  # noqa: S603  # this very program
                    [sys.executable, "-m", "datacachalog", *words],
                    cwd=self.project,
                    env=self._environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=self.terminal.out.file,
                    stderr=subprocess.STDOUT,
                )
                cleanup.callback(_end, process)
            code = process.wait()
        if code != expect:
            raise DatacachalogError(
                f"`dcl {' '.join(words)}` ended with {code} instead of {expect}",
                hint="this is a defect of the demo: please report it",
            )

    def _environment(self) -> dict[str, str]:
        return os.environ | {
            "DCL_CACHE_DIR": str(self.folder / f"{self.place}-cache"),
            "DCL_COLOR": self.options.color,
            "DCL_NO_PROGRESS": str(self.options.no_progress).lower(),
        }


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Put Ctrl-C off: one that comes while a process is being started would orphan it."""
    arrived: list[bool] = []
    before = signal.signal(signal.SIGINT, lambda *_: arrived.append(True))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if arrived:
        raise KeyboardInterrupt


def _end(process: subprocess.Popen[bytes]) -> None:
    """Let a command that got our Ctrl-C too tidy up, then make sure that it is gone."""
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


# --- the scenes ---------------------------------------------------------------------


def _set_out(stage: Stage) -> None:
    bucket = stage.bucket
    bucket.put("customers/current.csv", _customers())
    for month in (1, 2, 3, 4, 5, 6):
        bucket.put(f"orders/year=2026/month={month:02}/orders.csv", _orders(month, "shipped"))
    bucket.put("forecast/latest.csv", "month,amount\n2026-07,118000\n")
    text = _CATALOG.format(endpoint=bucket.endpoint, bucket=bucket.name)
    (stage.project / "catalog.yaml").write_text(text, encoding="utf-8")
    stage.say(
        f"An S3 server of this demo's own runs at {bucket.endpoint}. In its bucket lie a table of"
        " customers, six months of orders and a forecast; a catalog gives them names."
    )
    stage.show("catalog.yaml")
    stage.dcl("list")


def _sync(stage: Stage) -> None:
    stage.say("One command brings all of it to disk, through a cache that projects share.")
    stage.dcl("sync")
    stage.dcl("path", "orders")
    stage.say("Once more: the source is listed and compared, and nothing moves.")
    stage.dcl("sync")


def _change(stage: Stage) -> None:
    stage.say(
        "Meanwhile at the source, July arrives, January is deleted, and June is corrected: as many"
        " bytes as before, but other ones."
    )
    stage.bucket.put("orders/year=2026/month=07/orders.csv", _orders(7, "shipped"))
    stage.bucket.put("orders/year=2026/month=06/orders.csv", _orders(6, "refused"))
    stage.bucket.delete("orders/year=2026/month=01/orders.csv")
    stage.dcl("status")
    stage.dcl("sync", "--dry-run")
    stage.dcl("sync")


def _push(stage: Stage) -> None:
    stage.say("A new forecast is computed here, and goes back to where it came from.")
    forecast = stage.project / "new-forecast.csv"
    forecast.write_text("month,amount\n2026-08,121500\n", encoding="utf-8")
    stage.dcl("push", "forecast", forecast.name)
    stage.say(
        "Later a colleague replaces it. A push that would overwrite theirs unseen is refused."
    )
    stage.bucket.put("forecast/latest.csv", "month,amount\n2026-08,97000\n2026-09,99000\n")
    forecast.write_text("month,amount\n2026-08,123000\n", encoding="utf-8")
    stage.dcl("push", "forecast", forecast.name, expect=Exit.FAILED)
    stage.dcl("sync", "forecast")


def _travel(stage: Stage) -> None:
    stage.say(
        "The bucket keeps versions. A list of prices was written in January and raised in February;"
        " on February 20 somebody deleted it, and in March it came back with other prices."
    )
    key = "prices/list.csv"
    stage.bucket.put(key, _prices(100), at=datetime(2026, 1, 5, 8, tzinfo=UTC))
    stage.bucket.put(key, _prices(110), at=datetime(2026, 2, 5, 8, tzinfo=UTC))
    stage.bucket.delete(key, at=datetime(2026, 2, 20, 17, tzinfo=UTC))
    stage.bucket.put(key, _prices(125), at=datetime(2026, 3, 2, 8, tzinfo=UTC))
    stage.dcl("add", "prices", f"s3://{BUCKET}/{key}")
    stage.dcl("versions", "prices")
    stage.say("A date is enough to have it as it was then, beside what is latest.")
    stage.dcl("sync", "prices", "--as-of", "2026-02-10")
    stage.show("data/prices@2026-02-10/list.csv")


def _lock(stage: Stage) -> None:
    stage.say("A lock writes down exactly which files there are. It goes into git, like code's.")
    stage.dcl("lock")
    stage.dcl("sync")
    stage.say("Then the source moves on: prices rise again, and August's orders arrive.")
    stage.bucket.put("prices/list.csv", _prices(140))
    stage.bucket.put("orders/year=2026/month=08/orders.csv", _orders(8, "shipped"))
    stage.dcl("outdated", expect=Exit.VERDICT)
    stage.dcl("diff")
    stage.say("What is locked stays as it is until you say `dcl lock --upgrade`.")
    stage.dcl("sync")


def _reproduce(stage: Stage) -> None:
    stage.say(
        "A colleague checks the project out on a machine that has none of the data. The catalog and"
        " its lock bring the old bytes, although the bucket has newer ones."
    )
    there = replace(stage, place="checkout")
    there.project.mkdir()
    for file in ("catalog.yaml", "catalog.lock"):
        shutil.copy(stage.project / file, there.project)
    there.dcl("sync", "--frozen")
    there.show("data/prices/list.csv")


SCENES: dict[str, Callable[[Stage], None]] = {
    "A catalog names the data": _set_out,
    "Sync brings it to disk": _sync,
    "The source changes": _change,
    "Push sends a file back": _push,
    "The past is still there": _travel,
    "A lock holds it still": _lock,
    "Last month's run, elsewhere": _reproduce,
}


def _customers() -> str:
    rows = random.Random(0)  # noqa: S311  # the same bucket each time
    return _csv(
        "customer,name", (f"{n},customer-{rows.randrange(10**6):06}" for n in range(1, 401))
    )


def _prices(percent: int) -> str:
    prices = (("tea", 4), ("coffee", 6))
    return _csv("item,price", (f"{item},{price * percent / 100:.2f}" for item, price in prices))


def _orders(month: int, state: str) -> str:
    rows = random.Random(month)  # noqa: S311  # the same bucket each time
    lines = []
    for _ in range(1500):
        day, customer, amount = rows.randint(1, 28), rows.randint(1, 400), rows.randint(5, 900)
        lines.append(f"2026-{month:02}-{day:02},{customer},{amount},{state}")
    return _csv("day,customer,amount,state", sorted(lines))


def _csv(head: str, lines: Iterable[str]) -> str:
    return "\n".join([head, *lines, ""])


# --- the end ------------------------------------------------------------------------


def _say_what_next(stage: Stage) -> None:
    stage.heading("Try next, in a project of your own")
    tips = (
        ("dcl init", "write a commented catalog.yaml"),
        ("dcl add NAME s3://BUCKET/KEY", "name a dataset: an object, or a glob in quotes"),
        ("dcl doctor", "see which account, region and cache are in effect"),
        ("dcl sync", "bring it all to disk"),
        ("dcl lock", "write down exactly which files that were"),
        ("dcl --help", "see what else there is"),
    )
    cells = [(Cell(command, "cyan"), effect) for command, effect in tips]
    columns = Column(""), Column("", least=20)
    out = stage.terminal.out
    stage.terminal.data(render_table(out, columns, cells, has_head=False, indent=2))


def _stay(stage: Stage) -> None:
    """Say how to go on in the folder; at a terminal, serve until Ctrl-C."""
    cd = f"cd {stage.project}"
    if not stage.terminal.out.is_terminal:
        stage.say(
            f"The server ends with this command; the files stay: `{cd}`, then `dcl verify`"
            " or `dcl path orders`. Remove them with"
            f" `rm -r {stage.folder}`."
        )
        return
    stage.say(
        f"The server runs on until you press Ctrl-C. In another terminal: `{cd}`, then"
        " `dcl status`, or change catalog.yaml and `dcl sync`."
    )
    stage.terminal.flush()
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        stage.say(f"The server is gone, the files stay; remove them with `rm -r {stage.folder}`.")
