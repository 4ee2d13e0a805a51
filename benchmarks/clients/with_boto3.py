"""Download a bucket, or upload a file, as boto3's documentation shows it, in threads.

Run as `with_boto3.py get BUCKET FOLDER` or `with_boto3.py put FILE BUCKET KEY`, with the
endpoint in AWS_ENDPOINT_URL.
"""

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import boto3
from botocore.config import Config

_THREADS = 16


def get(bucket: str, folder: str) -> None:
    """Download every object of `bucket` into `folder`."""
    s3 = boto3.client("s3", config=Config(max_pool_connections=4 * _THREADS))
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    keys = [entry["Key"] for page in pages for entry in page.get("Contents", ())]
    for parent in {os.path.dirname(key) for key in keys}:
        os.makedirs(f"{folder}/{parent}", exist_ok=True)
    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(lambda key: s3.download_file(bucket, key, f"{folder}/{key}"), keys))


def put(file: str, bucket: str, key: str) -> None:
    """Upload `file`."""
    boto3.client("s3").upload_file(file, bucket, key)


if __name__ == "__main__":
    verb, *arguments = sys.argv[1:]
    if verb == "get":
        get(*arguments)
    else:
        put(*arguments)
