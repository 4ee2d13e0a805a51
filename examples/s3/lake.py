#!/usr/bin/env python
"""Serve a small data lake over S3 on this machine, until Ctrl-C.

    python lake.py [PORT]

The server is moto's (`pip install 'datacachalog[demo]'`); it keeps everything in memory.
"""

import logging
import sys
import threading

import boto3
from moto.server import ThreadedMotoServer

BUCKET = "acme-lake"
OBJECTS = {
    "customers/current.csv": "customer,name\n1,Ada\n2,Grace\n",
    "orders/year=2026/month=01/orders.csv": "day,customer,amount\n2026-01-03,1,120\n",
    "orders/year=2026/month=02/orders.csv": "day,customer,amount\n2026-02-11,2,80\n",
    "orders/_SUCCESS": "",
    "reports/monthly.csv": "month,amount\n2026-01,120\n2026-02,80\n",
}


def main() -> None:
    """Start the server, fill the bucket, and wait."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 9123
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="example",
        aws_secret_access_key="example",  # noqa: S106  # the server takes any
    )
    client.create_bucket(Bucket=BUCKET)
    for key, text in OBJECTS.items():
        client.put_object(Bucket=BUCKET, Key=key, Body=text.encode())
    print(f"serving s3://{BUCKET} at {endpoint}, until Ctrl-C", flush=True)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        server.stop()


if __name__ == "__main__":
    main()
