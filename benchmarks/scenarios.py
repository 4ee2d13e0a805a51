"""What is measured: one function per row of the table, with its goals.

Each makes its data, and gives one entry per client: a function that prepares one run and
returns the command. Ours is always the real `dcl` process in a fresh project with an empty
cache, unless the row says otherwise, with all that it does: resolving, hashing, linking,
state, start-up.
"""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from http.client import HTTPConnection
from itertools import count
from pathlib import Path

from benchmarks.buckets import BETWEEN, WRITTEN, Bucket, Buckets
from benchmarks.measuring import Command, FailedError, measure
from benchmarks.peers import Peer, environment
from benchmarks.servers.front import Endpoints

OURS = "dcl"
UNCHANGED = "dcl, no-op"
TENTH = "dcl, a tenth"
EMPTY = "python -c pass"

_UPLOADS = "uploads"

_FEW = 1000


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much there is of everything."""

    small: tuple[int, int] = (5_000, 20_000)
    large: int = 2 << 30
    medium: tuple[int, int] = (32, 64 << 20)
    many: int = 100_000
    versioned: int = 50_000
    datasets: int = 1_000
    scale: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)
    push: int = 1 << 30


QUICK = Sizes(
    small=(1_000, 20_000),
    large=256 << 20,
    medium=(8, 32 << 20),
    many=10_000,
    versioned=5_000,
    datasets=200,
    scale=(1_000, 10_000),
    push=128 << 20,
)

TINY = Sizes(
    small=(12, 2_000),
    large=40 << 20,
    medium=(2, 17 << 20),
    many=1_100,
    versioned=1_100,
    datasets=3,
    scale=(10, 1_100),
    push=20 << 20,
)


@dataclass(frozen=True, slots=True)
class AtMost:
    """A goal: our time at most `factor` times that of `other` in the same round."""

    other: str
    factor: float


@dataclass(frozen=True, slots=True)
class CpuAtMost:
    """A goal: our CPU seconds at most `factor` times those of `other` in the same round."""

    other: str
    factor: float


@dataclass(frozen=True, slots=True)
class Within:
    """A goal: our median time at most so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Memory:
    """A goal: our peak memory at most so many bytes."""

    size: int


Goal = AtMost | CpuAtMost | Within | Memory


@dataclass(frozen=True, slots=True)
class Entry:
    """One client in a contest; `prepare` makes one run ready, which is not timed."""

    name: str
    prepare: Callable[[], Command]
    is_slow: bool = False


@dataclass(frozen=True, slots=True)
class Contest:
    """One row: who takes part, and what ours should reach.

    `before` runs before each round. `rounds` multiplies the rounds that were asked for:
    what is short is measured more often.
    """

    title: str
    entries: list[Entry]
    goals: list[Goal]
    before: Callable[[], None] = lambda: None
    rounds: int = 1


@dataclass(slots=True)
class Bench:
    """What all scenarios share: sizes, data, servers, clients and a folder to work in."""

    sizes: Sizes
    buckets: Buckets
    servers: Endpoints
    peers: list[Peer]
    dcl: str
    work: Path
    _numbers: "count[int]" = field(default_factory=count)
    _synced: dict[tuple[Bucket, str], "Project"] = field(default_factory=dict)

    def folder(self, name: str) -> Path:
        """Return a fresh folder."""
        path = self.work / f"{name}-{next(self._numbers)}"
        path.mkdir(parents=True)
        return path

    def environment(self, endpoint: str, **more: str) -> Mapping[str, str]:
        """Return the environment of a client that talks to `endpoint`."""
        home = self.work / "home"
        home.mkdir(exist_ok=True)
        (home / "rclone.conf").touch()
        return environment(endpoint, home, **more)

    def project(self, datasets: Mapping[str, Mapping[str, object]], endpoint: str) -> "Project":
        """Return a fresh project with these datasets and an empty cache."""
        root = self.folder("project")
        (root / "catalog.yaml").write_text(json.dumps({"datasets": datasets}))
        return Project(self.dcl, root, self.environment(endpoint, DCL_CACHE_DIR=f"{root}/.cache"))

    def synced(self, bucket: Bucket, use: str = "") -> "Project":
        """Return the project in which all of `bucket` is in place; one for each `use`."""
        project = self._synced.get((bucket, use))
        if project is None:
            project = self.project(_glob(bucket), self.servers.plain)
            measure(project.kept("sync", expect=bucket))
            self._synced[bucket, use] = project
        return project


@dataclass(frozen=True, slots=True)
class Project:
    """A folder with a catalog and a cache of its own."""

    dcl: str
    root: Path
    environ: Mapping[str, str]

    def run(self, *arguments: str, expect: Bucket | None = None) -> Command:
        """Return a run of `dcl`; `expect` is what must lie in `data/` afterwards."""
        verify = partial(_check, self.root / "data", expect) if expect else lambda: None
        argv = [self.dcl, "--no-progress", *arguments]
        return Command(argv, self.root, self.environ, verify, partial(discard, self.root, expect))

    def kept(self, *arguments: str, expect: Bucket | None = None) -> Command:
        """Return the same for a project that is used again."""
        command = self.run(*arguments, expect=expect)
        return Command(command.argv, command.cwd, command.environ, command.verify)


def _check(folder: Path, expect: Bucket) -> None:
    """Raise unless `folder` holds as many files and bytes as `expect` says."""
    files = size = 0
    for path, _, names in os.walk(folder):
        for name in names:
            files += 1
            size += os.stat(f"{path}/{name}").st_size
    if (files, size) != (expect.count, expect.size):
        raise FailedError(
            f"{files} files of {size} bytes in place of {expect.count} of {expect.size}"
        )


def discard(folder: Path, held: Bucket | None) -> None:
    """Remove what a run left, if that is few files.

    Many stay until the end: ext4 makes new files slowly for five minutes after many were
    deleted (it passes over their inodes one by one, to be safe after a crash).
    """
    if held is not None and held.count <= _FEW:
        shutil.rmtree(folder)


# --- downloads ----------------------------------------------------------------------------


def small(bench: Bench) -> Contest:
    """Download many small objects, cold."""
    number, size = bench.sizes.small
    bucket = bench.buckets.bodies(number, size)
    entries = _downloads(bench, bucket, bench.servers.plain)
    goals: list[Goal] = [AtMost("s5cmd", 0.65), AtMost("rclone", 0.75), CpuAtMost("s5cmd", 0.55)]
    return Contest(f"{number:,} objects of {_bytes(size)}, cold", entries, goals)


def latency(bench: Bench) -> Contest:
    """Download the same, when every answer takes 30 ms."""
    number, size = bench.sizes.small
    if bench.servers.delayed is None:
        raise FailedError("nginx cannot wait: `apt install libnginx-mod-http-echo`")
    bucket = bench.buckets.bodies(number, size)
    entries = _downloads(bench, bucket, bench.servers.delayed)
    title = f"{number:,} objects of {_bytes(size)}, cold, 30 ms latency"
    return Contest(title, entries, [AtMost("s5cmd", 1.0)])


def large(bench: Bench) -> Contest:
    """Download one large object, cold."""
    size = bench.sizes.large
    bucket = bench.buckets.bodies(1, size)
    goals: list[Goal] = [
        AtMost("s5cmd", 1.05),
        AtMost("rclone", 1.05),
        AtMost("curl", 1.0),
        Memory(250 << 20),
    ]
    title = f"one object of {_bytes(size)}, cold"
    key = "part/0000/000000.bin"

    def theirs(peer: Peer, out: Path) -> list[str] | None:
        return peer.get_one(bench.servers.plain, bucket.name, key, out)

    return Contest(title, _downloads(bench, bucket, bench.servers.plain, theirs), goals)


def medium(bench: Bench) -> Contest:
    """Download some dozens of objects of a size that is fetched in ranges, cold."""
    number, size = bench.sizes.medium
    bucket = bench.buckets.bodies(number, size)
    entries = _downloads(bench, bucket, bench.servers.plain)
    goals: list[Goal] = [AtMost("the best peer", 1.15), Memory(250 << 20)]
    return Contest(f"{number} objects of {_bytes(size)}, cold", entries, goals)


def as_of(bench: Bench) -> Contest:
    """Download a bucket as it was between two versions of every key."""
    bucket = bench.buckets.versioned(bench.sizes.versioned)

    def theirs(peer: Peer, out: Path) -> list[str] | None:
        return peer.get(bench.servers.plain, bucket.name, out, as_of=BETWEEN)

    entries = _downloads(bench, bucket, bench.servers.plain, theirs, as_of=BETWEEN)
    title = f"as of a date: {2 * bucket.count:,} versions of {bucket.count:,} keys, cold"
    return Contest(title, entries, [AtMost("rclone", 0.6)])


def as_of_listing(bench: Bench) -> Contest:
    """Say what that download would do: the listing without the bodies."""
    bucket = bench.buckets.versioned(bench.sizes.versioned)

    def ours() -> Command:
        datasets = _glob(bucket, as_of=BETWEEN)
        return bench.project(datasets, bench.servers.plain).run("sync", "--dry-run")

    def theirs(peer: Peer, out: Path) -> list[str] | None:
        argv = peer.get(bench.servers.plain, bucket.name, out, as_of=BETWEEN)
        return argv and [*argv, "--dry-run", "--log-level", "ERROR"]

    others = [_theirs(bench, peer, None, bench.servers.plain, theirs) for peer in bench.peers]
    entries = [Entry(OURS, ours), *_present(others)]
    return Contest("the same, dry run", entries, [Within(2.0)])


def _downloads(
    bench: Bench,
    bucket: Bucket,
    endpoint: str,
    command: Callable[[Peer, Path], list[str] | None] | None = None,
    *,
    as_of: str = "",
) -> list[Entry]:
    """Return an entry for us and for each peer that can: all of `bucket`, into a new folder."""

    def ours() -> Command:
        return bench.project(_glob(bucket, as_of=as_of), endpoint).run("sync", expect=bucket)

    def plainly(peer: Peer, out: Path) -> list[str] | None:
        return peer.get(endpoint, bucket.name, out)

    others = [_theirs(bench, peer, bucket, endpoint, command or plainly) for peer in bench.peers]
    return [Entry(OURS, ours), *_present(others)]


def _theirs(
    bench: Bench,
    peer: Peer,
    bucket: Bucket | None,
    endpoint: str,
    command: Callable[[Peer, Path], list[str] | None],
) -> Entry | None:
    if command(peer, bench.work) is None:
        return None

    def prepare() -> Command:
        folder = bench.folder(peer.name)
        out = folder / "out"
        out.mkdir()
        argv = command(peer, out)
        assert argv is not None
        verify = partial(_check, out, bucket) if bucket else lambda: None
        environ = bench.environment(endpoint)
        return Command(argv, folder, environ, verify, partial(discard, folder, bucket))

    return Entry(peer.name, prepare, peer.is_slow)


def _present(entries: Iterable[Entry | None]) -> list[Entry]:
    return [entry for entry in entries if entry is not None]


def _glob(bucket: Bucket, **more: object) -> dict[str, dict[str, object]]:
    settings = {key: value for key, value in more.items() if value}
    return {"all": {"source": f"s3://{bucket.name}/**", **settings}}


# --- nothing, or little, to do ----------------------------------------------------------


def noop(bench: Bench) -> Contest:
    """Find that everything is in place already."""
    bucket = bench.buckets.listed(bench.sizes.many)
    project = bench.synced(bucket)
    measure(project.kept("sync"))
    ours = Entry(OURS, lambda: project.kept("sync"))
    goals: list[Goal] = [AtMost("s5cmd", 0.15), AtMost("rclone", 0.45), Memory(250 << 20)]
    return Contest(f"{bucket.count:,} unchanged objects", [ours, *_syncs(bench, bucket)], goals)


def odd_key(bench: Bench) -> Contest:
    """Find the same where one key is none that every client can express (`odd//key`)."""
    plain, odd = bench.buckets.listed(bench.sizes.many), bench.buckets.listed_odd(bench.sizes.many)
    projects = bench.synced(plain), bench.synced(odd)
    for project in projects:
        measure(project.kept("sync"))
    without, with_odd = (partial(project.kept, "sync") for project in projects)
    title = f"{odd.count:,} unchanged objects, one odd key"
    entries = [Entry(OURS, with_odd), Entry(UNCHANGED, without)]
    return Contest(title, entries, [AtMost(UNCHANGED, 3.0)])


def one_changed(bench: Bench) -> Contest:
    """Find the one object that was rewritten, with other bytes of the same size."""
    bucket = bench.buckets.listed(bench.sizes.many)
    still, moving = bench.synced(bucket), bench.synced(bucket, "moving")
    entries = [
        Entry(OURS, lambda: moving.kept("sync")),
        Entry(UNCHANGED, lambda: still.kept("sync")),
        *(entry for entry in _syncs(bench, bucket) if entry.name == "s5cmd"),
    ]
    clock = count(int(time.time()))

    def change() -> None:
        bench.buckets.change_one(bucket, next(clock))
        measure(still.kept("sync"))

    title = f"{bucket.count:,} objects, one changed"
    return Contest(title, entries, [AtMost(UNCHANGED, 1.1)], before=change)


def _syncs(bench: Bench, bucket: Bucket) -> Iterator[Entry]:
    """Yield the peers' entries over folders that hold the bucket's files."""
    quick = next((peer for peer in bench.peers if not peer.is_slow), None)
    for peer in bench.peers:
        if peer.sync(bench.servers.plain, bucket.name, bench.work) is None:
            continue
        folder = bench.folder(f"{peer.name}-synced")
        out = folder / "out"
        fill = (quick or peer).get(bench.servers.plain, bucket.name, out)
        argv = peer.sync(bench.servers.plain, bucket.name, out)
        assert fill is not None
        assert argv is not None
        environ = bench.environment(bench.servers.plain)
        measure(Command(fill, folder, environ, partial(_check, out, bucket)))
        _date_back(out)
        command = Command(argv, folder, environ, partial(_check, out, bucket))
        yield Entry(peer.name, partial(_same, command), peer.is_slow)


def _date_back(folder: Path) -> None:
    """Give all files the time of their objects: some peers take a younger file for edited."""
    for path, _, names in os.walk(folder):
        for name in names:
            os.utime(f"{path}/{name}", (WRITTEN, WRITTEN))


def _same(command: Command) -> Command:
    return command


def scale(bench: Bench) -> Iterator[Contest]:
    """Find nothing to do among ever more keys, each time ten times as many."""
    projects = [bench.synced(bench.buckets.listed(number, 0)) for number in bench.sizes.scale]
    entries = [Entry(OURS, partial(project.kept, "sync")) for project in projects]
    for number, entry in zip(bench.sizes.scale[:-1], entries, strict=False):
        yield Contest(f"no-op of {number:,} keys", [entry], [])
    goals: list[Goal] = [AtMost(TENTH, 10.0), Memory(12 * (1 << 30) // 10)]
    most = [entries[-1], replace(entries[-2], name=TENTH)]
    yield Contest(f"no-op of {bench.sizes.scale[-1]:,} keys", most, goals)


# --- the lock -----------------------------------------------------------------------------


def lock(bench: Bench) -> Iterator[Contest]:
    """Write the lock of many files, load it, and obey it with everything in place."""
    bucket = bench.buckets.listed(bench.sizes.many)
    unlocked, locked = bench.synced(bucket), bench.synced(bucket, "locked")
    measure(unlocked.kept("sync"))
    base = Entry(UNCHANGED, lambda: unlocked.kept("sync"))

    def write() -> Command:
        (locked.root / "catalog.lock").unlink(missing_ok=True)
        return locked.kept("lock")

    def row(title: str, prepare: Callable[[], Command]) -> Contest:
        goals: list[Goal] = [AtMost(UNCHANGED, 1.5)]
        return Contest(f"{title} {bucket.count:,} files", [Entry(OURS, prepare), base], goals)

    yield row("lock", write)
    measure(locked.kept("sync"))  # fills in the hashes
    yield row("lock --check of", lambda: locked.kept("lock", "--check"))
    yield row("sync --frozen of", lambda: locked.kept("sync", "--frozen"))


# --- start and status -----------------------------------------------------------------


def status(bench: Bench) -> Contest:
    """Ask how many datasets of one object stand, when every answer takes 30 ms."""
    if bench.servers.delayed is None:
        raise FailedError("nginx cannot wait: `apt install libnginx-mod-http-echo`")
    project = _many_datasets(bench, bench.servers.delayed)
    measure(project.kept("sync"))
    ours = Entry(OURS, lambda: project.kept("status"))
    title = f"status of {bench.sizes.datasets:,} datasets in one prefix, 30 ms latency"
    return Contest(title, [ours], [Within(3.0)])


def start(bench: Bench) -> Iterator[Contest]:
    """Start: what every command costs before it does anything."""
    project = _many_datasets(bench, bench.servers.plain)
    python = Path(bench.dcl).with_name("python")
    interpreter = str(python if python.exists() else sys.executable)
    pass_ = Command([interpreter, "-c", "pass"], project.root, project.environ)
    base = Entry(EMPTY, partial(_same, pass_))
    rows = [
        ("--version", 4.0, ["--version"]),
        ("--help", 18.0, ["--help"]),
        (f"list of {bench.sizes.datasets:,} datasets", 55.0, ["list"]),
    ]
    for row in rows:
        yield _start(project, base, *row)
    yield from _start_of_a_sync(bench, base)


def _start_of_a_sync(bench: Bench, base: Entry) -> Iterator[Contest]:
    """Measure what a sync takes that has one object to look at: the first plan, and a no-op."""
    bucket = bench.buckets.listed(1)
    datasets = {"all": {"source": f"s3://{bucket.name}/part/0000/0000000.bin"}}
    synced = bench.project(datasets, bench.servers.plain)
    measure(synced.kept("sync", expect=bucket))
    first = Entry(
        OURS, lambda: bench.project(datasets, bench.servers.plain).run("sync", "--dry-run")
    )
    again = Entry(OURS, lambda: synced.kept("sync"))
    yield Contest("start: a project's first sync --dry-run, one object", [first], [], rounds=5)
    goals: list[Goal] = [AtMost(EMPTY, 40.0)]
    yield Contest("start: sync of one object, no-op", [again, base], goals, rounds=5)


def _start(
    project: Project, base: Entry, title: str, factor: float, arguments: list[str]
) -> Contest:
    command = Command([project.dcl, *arguments], project.root, project.environ)
    entry = Entry(OURS, partial(_same, command))
    return Contest(f"start: {title}", [entry, base], [AtMost(EMPTY, factor)], rounds=5)


def _many_datasets(bench: Bench, endpoint: str) -> Project:
    number = bench.sizes.datasets
    bucket = bench.buckets.listed(number)
    keys = (f"part/{i // 1000:04d}/{i:07d}.bin" for i in range(number))
    datasets = {f"d{i:04d}": {"source": f"s3://{bucket.name}/{k}"} for i, k in enumerate(keys)}
    return bench.project(datasets, endpoint)


_FETCH = """
import sys, time
from datacachalog import load_catalog
catalog = load_catalog("catalog.yaml")
catalog.fetch("all")
times = []
for _ in range(500):
    began = time.perf_counter()
    catalog.fetch("all")
    times.append(time.perf_counter() - began)
print("median", sorted(times)[len(times) // 2])
"""


def fetch(bench: Bench) -> Contest:
    """Fetch a locked and present dataset, again and again within one process."""
    bucket = bench.buckets.listed(1)
    project = bench.project(
        {"all": {"source": f"s3://{bucket.name}/part/0000/0000000.bin"}}, bench.servers.plain
    )
    measure(project.kept("sync", expect=bucket))
    measure(project.kept("lock"))
    measure(project.kept("sync"))
    python = Path(bench.dcl).with_name("python")
    argv = [str(python if python.exists() else sys.executable), "-c", _FETCH]
    command = Command(
        argv, project.root, project.environ, seconds_in=lambda said: float(said.split()[-1])
    )
    title = "catalog.fetch of a locked, present dataset"
    return Contest(title, [Entry(OURS, partial(_same, command))], [Within(200e-6)])


# --- push -----------------------------------------------------------------------------------


def push(bench: Bench) -> Contest:
    """Upload one large file."""
    file = bench.buckets.file(bench.sizes.push)
    endpoint = bench.servers.uploads
    numbers = count()

    def ours() -> Command:
        key = f"ours-{next(numbers)}.bin"
        source = f"s3://{_UPLOADS}/{key}"
        project = bench.project({"all": {"source": source, "push": True}}, endpoint)
        held = Bucket("", 1, bench.sizes.push)
        command = project.run("push", "all", str(file), expect=held)
        return replace(command, verify=partial(_check_upload, bench, file, key))

    def theirs(peer: Peer) -> Command:
        folder = bench.folder(peer.name)
        key = f"{peer.name}-{next(numbers)}.bin"
        argv = peer.put(endpoint, file, _UPLOADS, key)
        assert argv is not None
        verify = partial(_check_upload, bench, file, key)
        return Command(argv, folder, bench.environment(endpoint), verify)

    others = [
        Entry(peer.name, partial(theirs, peer), peer.is_slow)
        for peer in bench.peers
        if peer.put(endpoint, file, _UPLOADS, "key") is not None
    ]
    title = f"push of {_bytes(bench.sizes.push)}"
    return Contest(title, [Entry(OURS, ours), *others], [AtMost("s5cmd", 1.2)])


def _check_upload(bench: Bench, file: Path, key: str) -> None:
    """Raise unless the sink got as many bytes as `file` has, and the same where it keeps them."""
    size = os.path.getsize(file)
    connection = HTTPConnection(bench.servers.uploads.removeprefix("http://"))
    with closing(connection):
        connection.request("GET" if bench.servers.keeps_uploads else "HEAD", f"/{_UPLOADS}/{key}")
        answer = connection.getresponse()
        got = answer.read()
    if answer.status != 200 or int(answer.headers["Content-Length"]) != size:
        raise FailedError(f"the server has {answer.headers['Content-Length']} bytes of {size}")
    if bench.servers.keeps_uploads and got != file.read_bytes():
        raise FailedError("the server has other bytes")


def _bytes(size: int) -> str:
    for unit, step in (("GiB", 30), ("MiB", 20)):
        if size >> step and size % (1 << step) == 0:
            return f"{size >> step} {unit}"
    return f"{size / 1000:g} kB"


SCENARIOS: Mapping[str, Callable[[Bench], Contest | Iterable[Contest]]] = {
    "start": start,
    "fetch": fetch,
    "status": status,
    "small": small,
    "latency": latency,
    "large": large,
    "medium": medium,
    "push": push,
    "noop": noop,
    "odd-key": odd_key,
    "one-changed": one_changed,
    "lock": lock,
    "as-of": as_of,
    "as-of-listing": as_of_listing,
    "scale": scale,
}
