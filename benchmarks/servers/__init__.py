"""The S3 of the benchmarks: nginx for bodies, a lister for listings, a sink for uploads.

Only for benchmarks: no signature is checked, no key but a plain one is known, and what is
uploaded is thrown away.
"""
