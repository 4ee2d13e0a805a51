"""Downloads from S3 by both engines, from the catalog to the files, whatever the server does."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from datacachalog import events
from datacachalog.catalog import Catalog, load_catalog
from datacachalog.errors import (
    AccessDeniedError,
    OfflineError,
    SourceUnreachableError,
    StorageError,
    ThrottledError,
)
from datacachalog.relpath import encode
from datacachalog.spec.models import Dataset
from datacachalog.storage.object_store import ObjectStoreStorage
from datacachalog.sync import retry
from tests.conftest import TestS3
from tests.projects import Ear, Project
from tests.storage.certificates import make_certificates
from tests.storage.object_server import ObjectServer, etag_of
from tests.storage.s3.scripted import Reply, Request, Server, error, scripted

ROOT = Path(__file__).parents[2]
KIB = 1 << 10
LARGE = (1 << 20) + 1
"""Bytes of an object that is written as it comes."""

Bend = Callable[[Reply], Reply]
ENGINES = ["obstore", "fsspec"]


@dataclass
class Lake:
    """A bucket whose next answers to GETs of a key may be bent, in order."""

    objects: dict[str, bytes]
    odd: dict[str, list[Bend]] = field(default_factory=dict)

    def __call__(self, request: Request) -> Reply:
        """Answer as S3, but for what is to be odd."""
        reply = ObjectServer(self.objects)(request)
        odd = self.odd.get(request.path.removeprefix("/lake/"))
        is_get = request.method == "GET" and "list-type" not in request.query
        return odd.pop(0)(reply) if odd and is_get else reply

    @property
    def size(self) -> int:
        """Return the bytes of all objects."""
        return sum(map(len, self.objects.values()))


def lake_of(count: int, size: int = 100) -> Lake:
    """Return a lake of objects of about `size` bytes, the first of them empty."""
    return Lake({f"d/{n:03}": os.urandom(n and size + n) for n in range(count)})


@dataclass
class Site:
    """A project whose one dataset lies on the server, reached by one engine."""

    project: Project
    server: Server
    engine: str

    def catalog(self, *, stall_seconds: float = 60, **settings: Any) -> Catalog:
        """Return a new catalog of everything in the bucket."""
        complete = self.server.storage(stall_seconds=stall_seconds, **settings)
        is_fast = self.engine == "obstore"
        fast = ObjectStoreStorage(complete, stall_seconds=stall_seconds)
        dataset = Dataset(name="all", source="s3://lake/d/**")
        return self.project.catalog(dataset, open_storage=lambda *_: fast if is_fast else complete)

    @property
    def files(self) -> dict[str, bytes]:
        """Return what is in place, by key."""
        return {f"d/{name}": data for name, data in self.project.files("all").items()}

    def asked(self, key: str = "") -> list[str]:
        """Return the keys (or the one) that were fetched, in order."""
        gets = [r for r in self.server.requests if r.method == "GET" and "list-type" not in r.query]
        return [r.path for r in gets if r.path.endswith(key)]

    @property
    def listings(self) -> int:
        """Return how often the bucket was listed; obstore proves that a listing was complete."""
        count = sum("list-type" in request.query for request in self.server.requests)
        return count // 2 if self.engine == "obstore" else count


Serve = Callable[[Lake], Site]


@pytest.fixture(params=ENGINES)
def site(request: pytest.FixtureRequest, project: Project) -> Iterator[Serve]:
    """Give a function that serves a lake to a project, until the test ends."""
    with ExitStack() as stack:
        yield lambda lake: Site(project, stack.enter_context(scripted(lake)), request.param)


# --- how it should be -------------------------------------------------------------------------


@pytest.mark.parametrize("jobs", [1, 8, None])
def test_small_objects_land_with_one_request_each(site: Serve, jobs: int | None) -> None:
    """Of all sizes, the empty one too; one listing, one GET each, nothing left behind."""
    lake = lake_of(50, 20 * KIB)
    here = site(lake)
    report = here.catalog().sync(jobs=jobs)

    assert here.files == lake.objects
    assert here.listings == 1
    assert sorted(here.asked()) == [f"/lake/{key}" for key in lake.objects]
    assert here.project.debris() == []
    assert [found.downloaded for found in report.outcomes] == [50]


def test_through_a_proxy(site: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's name need not be known here."""
    lake = lake_of(20)
    here = site(lake)
    monkeypatch.setenv("http_proxy", here.server.url)
    monkeypatch.setenv("no_proxy", "")
    here.catalog(endpoint_url="http://s3.lab.invalid").sync()

    assert here.files == lake.objects
    assert len(here.asked()) == 20


def test_offline_asks_nothing(site: Serve) -> None:
    """Not even to be refused."""
    here = site(lake_of(20))
    here.catalog().sync()
    shutil.rmtree(here.project.cache)
    shutil.rmtree(here.project.data)
    asked = len(here.server.requests)
    with pytest.raises(OfflineError):
        here.catalog().sync(offline=True)

    assert len(here.server.requests) == asked


# --- what goes wrong --------------------------------------------------------------------------

WRONG: dict[str, Bend] = {
    "busy": lambda _: Reply(503, error("SlowDown")),
    "error": lambda _: Reply(500, error("InternalError")),
    "hung up": lambda _: Reply(0),
    "cut": lambda reply: replace(reply, sent=7),
    "no length": lambda reply: replace(reply, length=None),
    "longer": lambda reply: replace(reply, body=reply.body + b"more", length=None),
    "more than announced": lambda reply: replace(
        reply, body=reply.body + b"more", length=len(reply.body)
    ),
}


@pytest.mark.parametrize("size", [100, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("case", WRONG)
def test_what_goes_wrong_is_repeated(site: Serve, case: str, size: int) -> None:
    """Once or a few times: each object is there in the end, and its bytes were counted once."""
    lake = lake_of(8, size)
    lake.odd = {f"d/{3 + n:03}": [WRONG[case]] * n for n in (1, 2, 3, 4)}
    here = site(lake)
    ear = Ear()
    here.catalog().sync(report=ear)

    assert here.files == lake.objects
    assert here.project.debris() == []
    assert len(ear.of(events.TransferFinished)) == 8
    assert sum(e.count for e in ear.of(events.Transferred)) == lake.size
    assert ear.of(events.Warned) == []


def test_a_body_shorter_than_resolved(site: Serve) -> None:
    """Where the server announces it so, the object is another one: it is resolved again."""
    lake = lake_of(20)
    lake.odd = {"d/007": [lambda reply: replace(reply, body=reply.body[:-1])]}
    here = site(lake)
    here.catalog().sync()

    assert here.files == lake.objects
    assert here.listings == 2


def test_a_server_that_asks_to_be_left_alone_is(site: Serve) -> None:
    """For as long as it says, and the listener hears of it."""
    lake = lake_of(3)
    slow = Reply(503, error("SlowDown"), {"Retry-After": "1"})
    lake.odd = {"d/002": [lambda _: slow] * 2}
    here = site(lake)
    ear = Ear()
    began = time.monotonic()
    here.catalog().sync(report=ear)

    assert here.files == lake.objects
    assert {type(e.error) for e in ear.of(events.Retrying)} == {ThrottledError}
    assert {e.delay for e in ear.of(events.Retrying)} == {1}
    assert time.monotonic() - began >= 1


def test_a_refusal_is_said_as_ever(site: Serve) -> None:
    """The error names the object; nothing is left, nothing in place."""
    lake = lake_of(20)
    lake.odd = {"d/007": [lambda _: Reply(403, error("AccessDenied"))] * 9}
    here = site(lake)
    with pytest.raises(AccessDeniedError, match="d/007"):
        here.catalog().sync()

    assert here.project.debris() == []
    assert here.files == {}


def test_it_gives_up_where_all_goes_wrong(site: Serve) -> None:
    """Hundreds of refusals are not collected before the first is told."""
    lake = lake_of(300)
    lake.odd = {key: [lambda _: Reply(403, error("AccessDenied"))] * 9 for key in lake.objects}
    here = site(lake)
    with pytest.raises(AccessDeniedError):
        here.catalog().sync(jobs=1)

    assert len(here.asked()) < 40


@pytest.mark.parametrize("size", [100, LARGE], ids=["small", "large"])
def test_an_object_that_changes_meanwhile_is_resolved_again(site: Serve, size: int) -> None:
    """Between the listing and the GET: the new bytes come, and only what is new is fetched."""
    lake = lake_of(8, size)

    def change(reply: Reply) -> Reply:
        lake.objects["d/007"] = b"new" * size
        return Reply(412, error("PreconditionFailed"))

    lake.odd = {"d/007": [change]}
    here = site(lake)
    ear = Ear()
    here.catalog().sync(report=ear)

    assert here.files == lake.objects
    assert here.listings == 2
    assert ["resolving again" in e.message for e in ear.of(events.Warned)] == [True]
    assert here.project.debris() == []


def test_another_object_in_place_of_the_right_one(site: Serve) -> None:
    """A server that ignores conditions is found out by what it says of itself."""
    lake = lake_of(20)

    def replaced(reply: Reply) -> Reply:
        lake.objects["d/007"] = body = b"x" * len(reply.body)
        return replace(reply, body=body, headers={**reply.headers, "ETag": f'"{etag_of(body)}"'})

    lake.odd = {"d/007": [replaced]}
    here = site(lake)
    here.catalog().sync()

    assert here.files == lake.objects
    assert here.listings == 2


def test_the_cache_may_be_removed_meanwhile(site: Serve) -> None:
    """All comes again that was there."""
    lake = lake_of(20)
    here = site(lake)
    removed: list[events.Event] = []

    def remove(event: events.Event) -> None:
        if isinstance(event, events.TransferFinished) and not removed:
            removed.append(event)
            shutil.rmtree(here.project.cache / "v1")

    here.catalog().sync(report=remove)

    assert removed
    assert here.files == lake.objects
    assert here.project.debris() == []


@pytest.mark.parametrize("stall", ["silent", "trickling"])
@pytest.mark.parametrize("size", [100, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("sent", [0, 7])
def test_a_server_that_stalls_is_given_up_and_asked_again(
    site: Serve, size: int, stall: str, sent: int
) -> None:
    """Whichever engine asks, and again when it is asked again."""
    lake = lake_of(4, size)
    lake.odd = {"d/003": [lambda reply: replace(reply, sent=sent, stall=stall)] * 2}  # type: ignore[arg-type]
    here = site(lake)
    ear = Ear()
    here.catalog(stall_seconds=0.4).sync(report=ear)

    assert here.files == lake.objects
    assert {type(e.error) for e in ear.of(events.Retrying)} == {SourceUnreachableError}
    assert here.project.debris() == []


def test_a_server_that_is_not_there(site: Serve) -> None:
    """It is tried a few times, and named."""
    here = site(lake_of(3))
    ear = Ear()
    with pytest.raises(SourceUnreachableError, match=r"127\.0\.0\.1:1"):
        here.catalog(endpoint_url="http://127.0.0.1:1").sync(report=ear)

    assert len(ear.of(events.Retrying)) == retry.ATTEMPTS - 1


def test_a_server_that_speaks_no_tls(site: Serve) -> None:
    """Neither is waited for, nor asked in the clear."""
    here = site(lake_of(3))
    with pytest.raises(StorageError):
        here.catalog(endpoint_url=here.server.url.replace("http", "https")).sync()

    assert here.server.requests == []


# --- certificates -----------------------------------------------------------------------------


@contextmanager
def secured(
    project: Project, lake: Lake, engine: str, *, is_own: bool
) -> Iterator[tuple[Site, str]]:
    """Serve a lake by TLS; give the site, and the certificate to trust."""
    project.base.mkdir(exist_ok=True)
    certificates = make_certificates(project.base, is_own=is_own)
    with scripted(lake, tls=certificates.context()) as server:
        yield Site(project, server, engine), str(certificates.authority)


@pytest.mark.parametrize("is_own", [False, True], ids=["of an authority", "its own"])
def test_a_certificate_that_is_not_trusted(project: Project, engine: str, is_own: bool) -> None:
    """It is refused, whatever the engine; the hint says how to trust it."""
    with secured(project, lake_of(3), engine, is_own=is_own) as (here, _):
        with pytest.raises(StorageError, match="certificate") as caught:
            here.catalog().sync()

        assert "ca_bundle" in (caught.value.hint or "")
        assert here.server.requests == []
        assert project.debris() == []


@pytest.mark.parametrize("is_own", [False, True], ids=["of an authority", "its own"])
@pytest.mark.parametrize("is_verified", [True, False], ids=["bundle", "unverified"])
def test_a_certificate_that_is_trusted(
    project: Project, engine: str, is_own: bool, is_verified: bool
) -> None:
    """One that signs itself, too, which obstore refuses."""
    lake = lake_of(5)
    with secured(project, lake, engine, is_own=is_own) as (here, bundle):
        here.catalog(**({"ca_bundle": bundle} if is_verified else {"verify": False})).sync()

        assert here.files == lake.objects


# --- whole processes --------------------------------------------------------------------------


def write_catalog(project: Project, server: Server, source: str = "s3://lake/d/**") -> Path:
    """Write a catalog of one dataset on the server, and return its path."""
    project.root.mkdir(parents=True, exist_ok=True)
    path = project.root / "catalog.yaml"
    path.write_text(
        f"storages: {{lab: {{endpoint_url: '{server.url}', region: us-east-1}}}}\n"
        f"datasets: {{all: {{source: '{source}', storage: lab}}}}\n"
    )
    return path


@pytest.fixture(params=ENGINES)
def engine(
    request: pytest.FixtureRequest, project: Project, monkeypatch: pytest.MonkeyPatch
) -> str:
    """Choose an engine by hand for this process and its children, with keys and a cache."""
    engine: str = request.param
    monkeypatch.setenv("DCL_ENGINE", "auto" if engine == "obstore" else engine)
    monkeypatch.setenv("DCL_CACHE_DIR", str(project.cache))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return engine


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("stalls", ["listing", "small", "large"])
def test_ctrl_c_ends_a_sync_of_a_silent_server(project: Project, stalls: str) -> None:
    """Within two seconds, with 130, and without a temporary file."""
    lake = lake_of(30, LARGE if stalls == "large" else 100)
    asked = threading.Event()

    def answer(request: Request) -> Reply:
        reply = ObjectServer(lake.objects)(request)
        if ("list-type" in request.query) != (stalls == "listing"):
            return reply
        asked.set()
        return replace(reply, sent=7, stall="silent")

    with scripted(answer) as server:
        write_catalog(project, server)
        process = subprocess.Popen(
            [sys.executable, "-m", "datacachalog", "sync"],
            cwd=project.root,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert asked.wait(30)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)

    assert process.returncode == 130, err
    assert time.monotonic() - began < 2 * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    assert "Traceback" not in err
    assert project.debris() == []


FORKING = """
import multiprocessing, sys, warnings
from datacachalog import load_catalog

warnings.simplefilter("ignore")
catalog = load_catalog("catalog.yaml")


def fetch(name):
    return [path.read_text() for path in catalog.fetch(name)]


before = fetch("one")
with multiprocessing.get_context("fork").Pool(2) as pool:
    children = pool.map(fetch, ["two", "three"])
print(before, *children, fetch("four"))
"""


@pytest.mark.usefixtures("engine")
def test_a_script_that_forks_after_a_fetch(project: Project) -> None:
    """Parent and children fetch; obstore would hang in a child."""
    names = ["one", "two", "three", "four"]
    with scripted(ObjectServer({f"{name}/a": name.encode() for name in names})) as server:
        sources = "".join(f"  {name}: s3://lake/{name}/**\n" for name in names)
        path = write_catalog(project, server)
        head = path.read_text().partition("datasets")[0]
        path.write_text(f"{head}defaults: {{storage: lab}}\ndatasets:\n{sources}")
        done = subprocess.run(
            [sys.executable, "-c", FORKING],
            cwd=project.root,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    assert done.stdout.split() == ["['one']", "['two']", "['three']", "['four']"], done.stderr


FEW_FILES = """
import resource
from datacachalog import load_catalog

catalog = load_catalog("catalog.yaml")
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
print(catalog.sync(jobs=256).outcomes[0].downloaded)
"""


@pytest.mark.usefixtures("engine")
def test_few_files_may_be_open(project: Project) -> None:
    """Fewer than the requests that are allowed at a time: all comes all the same."""
    with scripted(lake_of(500)) as server:
        write_catalog(project, server)
        done = subprocess.run(
            [sys.executable, "-c", FEW_FILES],
            cwd=project.root,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    assert done.stdout.strip() == "500", done.stderr


MEASURED = """
import re
from pathlib import Path
from datacachalog import load_catalog

load_catalog("catalog.yaml").sync(jobs=256)
print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.usefixtures("engine")
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's own figure")
def test_memory_stays_small_at_any_concurrency(project: Project) -> None:
    """Of 400 MiB that might all be under way at once, few are."""
    body = os.urandom(5 << 20)
    with scripted(ObjectServer({f"d/{n}": body for n in range(80)})) as server:
        write_catalog(project, server)
        done = subprocess.run(
            [sys.executable, "-c", MEASURED],
            cwd=project.root,
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
    shutil.rmtree(project.base)

    assert int(done.stdout) < 250 * KIB


# --- keys that paths would confuse ------------------------------------------------------------


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize(
    "keys",
    [
        ("a/", "/a", "a//b", "./a", "a/../b", "a", "c\x01", "c\x1f", "c\x7f"),
        ("x/trail/", "plain"),
        ("x/trail/", "x/trail", "plain"),
    ],
    ids=["all", "a slash at the end", "with its twin"],
)
def test_odd_keys_come_without_a_word(s3: TestS3, project: Project, keys: tuple[str, ...]) -> None:
    """Each as the file of its own name with its own bytes; no warning, and nothing to do after."""
    bucket = s3.bucket()
    for number, key in enumerate(keys):
        bucket.put(f"k/{key}", f"<{number}>".encode())
    path = write_catalog(project, Server(s3.endpoint), f"s3://{bucket.name}/k/**")
    ear = Ear()
    load_catalog(path).sync(report=ear)

    files = {encode(key): f"<{number}>".encode() for number, key in enumerate(keys)}
    if "a/../b" in keys:
        files["~61"] = files.pop("a")  # there is a folder of that name

    assert project.files("all") == files
    assert ear.of(events.Warned) == []
    assert ear.of(events.Retrying) == []
    again = load_catalog(path).sync()
    assert [outcome.downloaded for outcome in again.outcomes] == [0]
