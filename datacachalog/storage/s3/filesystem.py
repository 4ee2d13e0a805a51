"""The same S3 as an s3fs filesystem, from the same settings.

For users, not for the line: whoever wants to read a few columns of a large file in place,
or to list what is not in the catalog, gets s3fs set up as their catalog says.
"""

from typing import TYPE_CHECKING, Any

from datacachalog.storage.s3.connection import Connection, connect

if TYPE_CHECKING:
    from s3fs import S3FileSystem

    from datacachalog.spec import StorageSettings


def s3fs_options(settings: "StorageSettings", connection: Connection) -> dict[str, Any]:
    """Return what s3fs needs to reach what `settings` and the environment say."""
    client: dict[str, Any] = {}
    if connection.region is not None:
        client["region_name"] = connection.region
    if not connection.is_verified or connection.ca_bundle is not None:
        client["verify"] = connection.ca_bundle if connection.is_verified else False
    config: dict[str, Any] = {"s3": {"addressing_style": connection.addressing_style}}
    if not connection.is_amazon:
        # Look-alikes break on the checksums that boto adds by default.
        config["request_checksum_calculation"] = "when_required"
        config["response_checksum_validation"] = "when_required"
    return {
        "anon": settings.anon,
        "key": settings.key,
        "secret": settings.secret,
        "token": settings.token,
        "profile": settings.profile,
        "endpoint_url": connection.endpoint_url,
        "requester_pays": connection.is_requester_pays,
        # s3fs would go on showing a listing after the bucket changed.
        "use_listings_cache": False,
        "client_kwargs": client,
        "config_kwargs": config,
    }


def open_filesystem(settings: "StorageSettings") -> "S3FileSystem":
    """Return s3fs, set up like the storage of the same settings."""
    import s3fs

    return s3fs.S3FileSystem(**s3fs_options(settings, connect(settings)))
