"""Benchmarks against other S3 clients, on servers of their own: `python -m benchmarks`."""
