"""Ctrl-C: a run ends within two seconds, as KeyboardInterrupt, and leaves nothing half-made."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import ROOT, interrupt
from tests.projects import Project

STALLING = """
import sys, threading
from pathlib import Path

from datacachalog import events
from datacachalog.spec.models import Dataset
from datacachalog.sync import download
from tests.memory_storage import MemoryStorage
from tests.projects import LAKE, Project, orders

base, stall, names = Path(sys.argv[1]), sys.argv[2], sys.argv[3].split(",")
download.RANGE = download.WHOLE = 64 << 10


class Stalling(MemoryStorage):
    def scan(self, uri, **options):
        if stall == "scan":
            print("stalled", flush=True)
            native_wait()
        yield from super().scan(uri, **options)

    def read(self, obj, start, stop):
        for piece in super().read(obj, start, stop):
            yield piece
            if stall == "read":
                print("stalled", flush=True)
                native_wait()


def native_wait():
    # What no signal wakes: as a request within native code.
    lock = threading.Lock()
    lock.acquire()
    while True:
        try:
            lock.acquire()
        except KeyboardInterrupt:
            pass


storage = Stalling(chunk=16 << 10)
project = Project(base, storage)
for name in names:
    project.put(f"{name}/big", bytes(1 << 20))
    for n in range(50):
        project.put(f"{name}/{n}", b"x" * 40000)
datasets = [Dataset(name=name, source=f"{LAKE}/{name}/**") for name in names]


def report(event):
    is_end = isinstance(event, events.TransferFinished)
    if stall == "place" and is_end and "big" in event.object.uri:
        print("stalled", flush=True)


project.catalog(*datasets).sync(jobs=4, report=report)
"""


@pytest.mark.parametrize("stall", ["scan", "read", "place"])
@pytest.mark.parametrize("names", ["a", "a,b,c"], ids=["one dataset", "three datasets"])
def test_ctrl_c_ends_a_run_that_hangs(tmp_path: Path, stall: str, names: str) -> None:
    """In a request that no signal wakes, or in the middle of work."""
    process = subprocess.Popen(
        [sys.executable, "-c", STALLING, str(tmp_path), stall, names],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    err = interrupt(process)

    assert process.returncode in (-signal.SIGINT, 130), err
    assert err.rstrip().endswith("KeyboardInterrupt")
    assert Project(tmp_path).debris() == []
