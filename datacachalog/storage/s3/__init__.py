"""Amazon S3 and its look-alikes."""

from datacachalog.storage.s3.storage import S3Storage

__all__ = ["S3Storage"]
