"""What happens during a run, as frozen values handed to a `report` callable.

`report` is called from worker threads, one call at a time is not promised: a receiver
that draws must lock for itself. Events carry raw names and keys; whoever shows them on
a terminal sanitises them. Tuples, since there are many of them, and since a class of these
is made in a seventh of the time of a frozen dataclass, at every start.
"""

from collections.abc import Callable
from typing import NamedTuple

from datacachalog.errors import DatacachalogError
from datacachalog.model import RemoteObject


class Planned(NamedTuple):
    """A dataset was resolved and compared: what is to come. Repeated if resolved again."""

    dataset: str
    downloads: int
    download_bytes: int
    links: int
    drops: int
    hits: int


class TransferStarted(NamedTuple):
    """Bytes of one object begin to flow."""

    dataset: str
    object: RemoteObject


class Transferred(NamedTuple):
    """`count` more bytes of one object arrived; negative when an attempt starts over."""

    dataset: str
    object: RemoteObject
    count: int  # type: ignore[assignment]  # nobody needs the tuple's method of that name


class TransferFinished(NamedTuple):
    """One object is verified and stored (`error` None), or has failed for good."""

    dataset: str
    object: RemoteObject
    error: DatacachalogError | None = None


class Retrying(NamedTuple):
    """A transient failure; the next attempt starts in `delay` seconds."""

    dataset: str
    uri: str
    error: DatacachalogError
    attempt: int
    delay: float


class Warned(NamedTuple):
    """Something the user should know; the run goes on."""

    dataset: str
    message: str
    hint: str | None = None


class DatasetFinished(NamedTuple):
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
