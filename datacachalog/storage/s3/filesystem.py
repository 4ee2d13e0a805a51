"""s3fs, set up as a connection says: what all requests of the complete way go through.

Users get the same instance, to read a few columns of a large file in place or to list what
is not in the catalog.
"""

from typing import TYPE_CHECKING, Any

from datacachalog.storage import stall
from datacachalog.storage.s3 import http_session
from datacachalog.storage.s3.connection import Connection
from datacachalog.storage.s3.redaction import redact_logs

if TYPE_CHECKING:
    from s3fs import S3FileSystem

_CONNECT_SECONDS = 10
_MOST_CONNECTIONS = 256


def s3fs_options(connection: Connection, stall_seconds: float = stall.SECONDS) -> dict[str, Any]:
    """Return what s3fs needs to reach what `connection` says.

    All is given, also what is None: s3fs would take it from `FSSPEC_S3_*` otherwise.
    """
    client: dict[str, Any] = {
        "verify": connection.is_verified and (connection.ca_bundle or True),
    }
    if connection.region is not None:
        client["region_name"] = connection.region
    keys = connection.keys
    return {
        "anon": connection.is_anonymous,
        "key": keys and keys.key,
        "secret": keys and keys.secret,
        "token": keys and keys.token,
        "profile": connection.profile,
        "endpoint_url": connection.endpoint_url,
        "requester_pays": connection.is_requester_pays,
        # s3fs would go on showing a listing after the bucket changed.
        "use_listings_cache": False,
        "client_kwargs": client,
        "config_kwargs": _config(connection, stall_seconds),
        "s3_additional_kwargs": _encryption(connection),
    }


def _config(connection: Connection, stall_seconds: float) -> dict[str, Any]:
    config: dict[str, Any] = {
        "connect_timeout": _CONNECT_SECONDS,
        "read_timeout": stall_seconds,
        "max_pool_connections": _MOST_CONNECTIONS,
        # Trying again is the caller's, who knows whether the run was interrupted.
        "retries": {"total_max_attempts": 1, "mode": "standard"},
        "http_session_cls": http_session.Session,
        "s3": {
            "addressing_style": connection.addressing_style,
            # Over plain HTTP each body would be hashed before it is sent.
            "payload_signing_enabled": False,
        },
    }
    if not connection.is_amazon:
        # Look-alikes break on the checksums that boto adds by default.
        config["request_checksum_calculation"] = "when_required"
        config["response_checksum_validation"] = "when_required"
    return config


def _encryption(connection: Connection) -> dict[str, Any]:
    if connection.sse_customer_key is None:
        return {}
    return {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": connection.sse_customer_key}


def make_filesystem(connection: Connection, stall_seconds: float = stall.SECONDS) -> "S3FileSystem":
    """Return a new s3fs instance for this process."""
    import s3fs

    redact_logs()
    options = s3fs_options(connection, stall_seconds)
    made = s3fs.S3FileSystem(**options, skip_instance_cache=True)
    made.retries = 1
    return made
