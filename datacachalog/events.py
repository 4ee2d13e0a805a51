"""What happens during a run, as frozen values handed to a `report` callable.

`report` is called from worker threads, one call at a time is not promised: a receiver
that draws must lock for itself. Events carry raw names and keys; whoever shows them on
a terminal sanitises them.
"""

from collections.abc import Callable
from dataclasses import dataclass

from datacachalog.errors import DatacachalogError
from datacachalog.model import RemoteObject


@dataclass(frozen=True, slots=True)
class Planned:
    """A dataset was resolved and compared: what is to come. Repeated if resolved again."""

    dataset: str
    downloads: int
    download_bytes: int
    links: int
    drops: int
    hits: int


@dataclass(frozen=True, slots=True)
class TransferStarted:
    """Bytes of one object begin to flow."""

    dataset: str
    object: RemoteObject


@dataclass(frozen=True, slots=True)
class Transferred:
    """`count` more bytes of one object arrived; negative when an attempt starts over."""

    dataset: str
    object: RemoteObject
    count: int


@dataclass(frozen=True, slots=True)
class TransferFinished:
    """One object is verified and stored (`error` None), or has failed for good."""

    dataset: str
    object: RemoteObject
    error: DatacachalogError | None = None


@dataclass(frozen=True, slots=True)
class Retrying:
    """A transient failure; the next attempt starts in `delay` seconds."""

    dataset: str
    uri: str
    error: DatacachalogError
    attempt: int
    delay: float


@dataclass(frozen=True, slots=True)
class Warned:
    """Something the user should know; the run goes on."""

    dataset: str
    message: str
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class DatasetFinished:
    """One dataset is done, or has failed and keeps what it had.

    Counts are files: `downloaded` came over the network, `linked` came from the cache,
    `hits` were in place already, `dropped` vanished at the source.
    """

    dataset: str
    downloaded: int = 0
    downloaded_bytes: int = 0
    linked: int = 0
    hits: int = 0
    dropped: int = 0
    total_bytes: int = 0
    error: DatacachalogError | None = None


Event = (
    Planned | TransferStarted | Transferred | TransferFinished | Retrying | Warned | DatasetFinished
)

Report = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Receive an event and do nothing: the default `report`."""
