"""Downloads from S3 by both engines, from the catalog to the files, whatever the server does."""

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
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
from tests.fake_s3 import FakeS3, Reply, Request, Stall, error, etag_of
from tests.processes import ROOT, interrupt, run_python
from tests.projects import EventRecorder, Project
from tests.storage.certificates import Certificates, make_certificates

KIB = 1 << 10
LARGE = (1 << 20) + 1
"""Bytes of an object that is written as it comes."""

Failure = Callable[[Reply], Reply]
ENGINES = ["obstore", "fsspec"]


def s3_of(count: int, size: int = 100, **options: Any) -> FakeS3:
    """Return an S3 with objects of about `size` bytes, the first of them empty."""
    return FakeS3({f"d/{n:03}": os.urandom(n and size + n) for n in range(count)}, **options)


@dataclass
class Site:
    """A project whose one dataset lies on the server, reached by one engine."""

    project: Project
    server: FakeS3
    engine: str

    def catalog(self, *, stall_seconds: float = 60, **settings: Any) -> Catalog:
        """Return a new catalog of everything in the bucket."""
        complete = self.server.storage(stall_seconds=stall_seconds, **settings)
        is_fast = self.engine == "obstore"
        fast = ObjectStoreStorage(complete, stall_seconds=stall_seconds)
        dataset = Dataset(name="all", source="s3://lake/d/**")
        return self.project.catalog(dataset, open_storage=lambda *_: fast if is_fast else complete)

    def sync_all(self, *, jobs: int | None = None, **settings: Any) -> EventRecorder:
        """Sync; see that all is in place and nothing else; return what was reported."""
        recorder = EventRecorder()
        self.catalog(**settings).sync(jobs=jobs, report=recorder)

        assert self.files == self.server.objects
        assert self.project.debris() == []
        return recorder

    @property
    def files(self) -> dict[str, bytes]:
        """Return what is in place, by key."""
        return {f"d/{name}": data for name, data in self.project.files("all").items()}

    def asked(self) -> list[str]:
        """Return the paths that were fetched, in order."""
        gets = [r for r in self.server.requests if r.method == "GET" and not r.is_listing]
        return [r.path for r in gets]

    @property
    def listings(self) -> int:
        """Return how often the bucket was listed; obstore proves that a listing was complete."""
        count = sum(request.is_listing for request in self.server.requests)
        return count // 2 if self.engine == "obstore" else count


Serve = Callable[[FakeS3], Site]


@pytest.fixture(params=ENGINES)
def site(request: pytest.FixtureRequest, project: Project) -> Iterator[Serve]:
    """Give a function that runs an S3 for a project, until the test ends."""
    with ExitStack() as stack:
        yield lambda s3: Site(project, stack.enter_context(s3), request.param)


# --- how it should be -------------------------------------------------------------------------


@pytest.mark.parametrize("jobs", [1, 8, None])
def test_small_objects_land_with_one_request_each(site: Serve, jobs: int | None) -> None:
    """Of all sizes, the empty one too; one listing, one GET each, nothing left behind."""
    here = site(s3_of(50, 20 * KIB))
    recorder = here.sync_all(jobs=jobs)

    assert here.listings == 1
    assert sorted(here.asked()) == [f"/lake/{key}" for key in here.server.objects]
    assert len(recorder.of(events.TransferFinished)) == 50


def test_through_a_proxy(site: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's name need not be known here."""
    here = site(s3_of(20))
    monkeypatch.setenv("http_proxy", here.server.url)
    monkeypatch.setenv("no_proxy", "")
    here.sync_all(endpoint_url="http://s3.lab.invalid")

    assert len(here.asked()) == 20


def test_offline_asks_nothing(site: Serve) -> None:
    """Not even to be refused."""
    here = site(s3_of(20))
    here.sync_all()
    shutil.rmtree(here.project.cache)
    shutil.rmtree(here.project.data)
    asked = len(here.server.requests)
    with pytest.raises(OfflineError):
        here.catalog().sync(offline=True)

    assert len(here.server.requests) == asked


# --- what goes wrong --------------------------------------------------------------------------

WRONG: dict[str, Failure] = {
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
SIZES = pytest.mark.parametrize("size", [100, LARGE], ids=["small", "large"])


def denied(reply: Reply) -> Reply:
    """Refuse for good."""
    return Reply(403, error("AccessDenied"))


@SIZES
@pytest.mark.parametrize("case", WRONG)
def test_what_goes_wrong_is_repeated(site: Serve, case: str, size: int) -> None:
    """Once or a few times: each object is there in the end, and its bytes were counted once."""
    here = site(s3_of(8, size))
    here.server.failures = {f"d/{3 + n:03}": [WRONG[case]] * n for n in (1, 2, 3, 4)}
    recorder = here.sync_all()

    total = sum(map(len, here.server.objects.values()))
    assert len(recorder.of(events.TransferFinished)) == 8
    assert sum(e.count for e in recorder.of(events.Transferred)) == total
    assert recorder.of(events.Warned) == []


def test_a_server_that_asks_to_be_left_alone_is(site: Serve) -> None:
    """For as long as it says, and the listener hears of it."""
    here = site(s3_of(3))
    slow = Reply(503, error("SlowDown"), {"Retry-After": "1"})
    here.server.failures = {"d/002": [lambda _: slow] * 2}
    began = time.monotonic()
    recorder = here.sync_all()

    assert {type(e.error) for e in recorder.of(events.Retrying)} == {ThrottledError}
    assert {e.delay for e in recorder.of(events.Retrying)} == {1}
    assert time.monotonic() - began >= 1


def test_a_refusal_is_said_as_ever(site: Serve) -> None:
    """The error names the object; nothing is left, nothing in place."""
    here = site(s3_of(20))
    here.server.failures = {"d/007": [denied] * 9}
    with pytest.raises(AccessDeniedError, match="d/007"):
        here.catalog().sync()

    assert here.project.debris() == []
    assert here.files == {}


def test_it_gives_up_where_all_goes_wrong(site: Serve) -> None:
    """Hundreds of refusals are not collected before the first is told."""
    here = site(s3_of(300))
    here.server.failures = {key: [denied] * 9 for key in here.server.objects}
    with pytest.raises(AccessDeniedError):
        here.catalog().sync(jobs=1)

    assert len(here.asked()) < 40


@SIZES
@pytest.mark.parametrize("is_refused", [True, False], ids=["refused", "not noticed by the server"])
def test_an_object_that_changes_meanwhile_is_resolved_again(
    site: Serve, size: int, is_refused: bool
) -> None:
    """Between the listing and the GET: the new bytes come, and only what is new is fetched.

    A server that ignores conditions is found out by what it says of itself.
    """
    here = site(s3_of(8, size))

    def change(reply: Reply) -> Reply:
        here.server.objects["d/007"] = body = b"x" * len(reply.body)
        if is_refused:
            return Reply(412, error("PreconditionFailed"))
        return replace(reply, body=body, headers={**reply.headers, "ETag": f'"{etag_of(body)}"'})

    here.server.failures = {"d/007": [change]}
    recorder = here.sync_all()

    assert here.listings == 2
    assert ["resolving again" in e.message for e in recorder.of(events.Warned)] == [True]


def test_a_body_shorter_than_resolved(site: Serve) -> None:
    """Where the server announces it so, the object is another one: it is resolved again."""
    here = site(s3_of(20))
    here.server.failures = {"d/007": [lambda reply: replace(reply, body=reply.body[:-1])]}
    here.sync_all()

    assert here.listings == 2


def test_the_cache_may_be_removed_meanwhile(site: Serve) -> None:
    """All comes again that was there."""
    here = site(s3_of(20))
    removed: list[events.Event] = []

    def remove(event: events.Event) -> None:
        if isinstance(event, events.TransferFinished) and not removed:
            removed.append(event)
            shutil.rmtree(here.project.cache / "v1")

    here.catalog().sync(report=remove)

    assert removed
    assert here.files == here.server.objects
    assert here.project.debris() == []


@pytest.mark.parametrize("stall", ["silent", "trickling"])
@SIZES
@pytest.mark.parametrize("sent", [0, 7])
def test_a_server_that_stalls_is_given_up_and_asked_again(
    site: Serve, size: int, stall: Stall, sent: int
) -> None:
    """Whichever engine asks, and again when it is asked again."""
    here = site(s3_of(4, size))
    here.server.failures = {"d/003": [lambda reply: replace(reply, sent=sent, stall=stall)] * 2}
    recorder = here.sync_all(stall_seconds=0.4)

    assert {type(e.error) for e in recorder.of(events.Retrying)} == {SourceUnreachableError}


def test_a_server_that_is_not_there(site: Serve) -> None:
    """It is tried a few times, and named."""
    here = site(s3_of(3))
    recorder = EventRecorder()
    with pytest.raises(SourceUnreachableError, match=r"127\.0\.0\.1:1"):
        here.catalog(endpoint_url="http://127.0.0.1:1").sync(report=recorder)

    assert len(recorder.of(events.Retrying)) == retry.ATTEMPTS - 1


def test_a_server_that_speaks_no_tls(site: Serve) -> None:
    """Neither is waited for, nor asked in the clear."""
    here = site(s3_of(3))
    with pytest.raises(StorageError):
        here.catalog(endpoint_url=here.server.url.replace("http", "https")).sync()

    assert here.server.requests == []


# --- certificates -----------------------------------------------------------------------------


@pytest.fixture(params=[False, True], ids=["of an authority", "its own"])
def certificates(request: pytest.FixtureRequest, project: Project) -> Certificates:
    """Make certificates that no system trusts."""
    project.base.mkdir(exist_ok=True)
    return make_certificates(project.base, is_own=request.param)


def test_a_certificate_that_is_not_trusted(site: Serve, certificates: Certificates) -> None:
    """It is refused, whatever the engine; the hint says how to trust it."""
    here = site(s3_of(3, tls=certificates.context()))
    with pytest.raises(StorageError, match="certificate") as caught:
        here.catalog().sync()

    assert "ca_bundle" in (caught.value.hint or "")
    assert here.server.requests == []
    assert here.project.debris() == []


@pytest.mark.parametrize("is_verified", [True, False], ids=["bundle", "unverified"])
def test_a_certificate_that_is_trusted(
    site: Serve, certificates: Certificates, is_verified: bool
) -> None:
    """One that signs itself, too, which obstore refuses."""
    here = site(s3_of(5, tls=certificates.context()))
    here.sync_all(
        **({"ca_bundle": str(certificates.authority)} if is_verified else {"verify": False})
    )


# --- whole processes --------------------------------------------------------------------------


def write_catalog(project: Project, url: str, source: str = "s3://lake/d/**") -> Path:
    """Write a catalog of one dataset on the server, and return its path."""
    project.root.mkdir(parents=True, exist_ok=True)
    path = project.root / "catalog.yaml"
    path.write_text(
        f"storages: {{lab: {{endpoint_url: '{url}', region: us-east-1}}}}\n"
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
    asked = threading.Event()

    def change(request: Request, reply: Reply) -> Reply:
        if request.is_listing != (stalls == "listing"):
            return reply
        asked.set()
        return replace(reply, sent=7, stall="silent")

    with s3_of(30, LARGE if stalls == "large" else 100, change=change) as server:
        write_catalog(project, server.url)
        process = subprocess.Popen(
            [sys.executable, "-m", "datacachalog", "sync"],
            cwd=project.root,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert asked.wait(30)
        err = interrupt(process)

    assert process.returncode == 130, err
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
    with FakeS3({f"{name}/a": name.encode() for name in names}) as server:
        sources = "".join(f"  {name}: s3://lake/{name}/**\n" for name in names)
        path = write_catalog(project, server.url)
        head = path.read_text().partition("datasets")[0]
        path.write_text(f"{head}defaults: {{storage: lab}}\ndatasets:\n{sources}")
        done = run_python("-c", FORKING, cwd=project.root)

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
    with s3_of(500) as server:
        write_catalog(project, server.url)
        done = run_python("-c", FEW_FILES, cwd=project.root)

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
    with FakeS3({f"d/{n}": body for n in range(80)}) as server:
        write_catalog(project, server.url)
        done = run_python("-c", MEASURED, cwd=project.root)
    shutil.rmtree(project.base)

    assert int(done.stdout) < 250 * KIB, done.stderr


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
    path = write_catalog(project, s3.endpoint, f"s3://{bucket.name}/k/**")
    recorder = EventRecorder()
    load_catalog(path).sync(report=recorder)

    files = {encode(key): f"<{number}>".encode() for number, key in enumerate(keys)}
    if "a/../b" in keys:
        files["~61"] = files.pop("a")  # there is a folder of that name

    assert project.files("all") == files
    assert recorder.of(events.Warned) == []
    assert recorder.of(events.Retrying) == []
    again = load_catalog(path).sync()
    assert [outcome.downloaded for outcome in again.outcomes] == [0]
