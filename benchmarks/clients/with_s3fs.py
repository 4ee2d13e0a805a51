"""Download a bucket, or upload a file, by s3fs's own bulk calls.

Run as `with_s3fs.py get BUCKET FOLDER` or `with_s3fs.py put FILE BUCKET KEY`, with the
endpoint in AWS_ENDPOINT_URL.
"""

import sys

import s3fs


def get(bucket: str, folder: str) -> None:
    """Download every object of `bucket` into `folder`."""
    s3fs.S3FileSystem().get(f"{bucket}/", f"{folder}/", recursive=True)


def put(file: str, bucket: str, key: str) -> None:
    """Upload `file`."""
    s3fs.S3FileSystem().put(file, f"{bucket}/{key}")


if __name__ == "__main__":
    verb, *arguments = sys.argv[1:]
    if verb == "get":
        get(*arguments)
    else:
        put(*arguments)
