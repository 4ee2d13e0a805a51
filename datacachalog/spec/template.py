"""The text of a new catalog, for `dcl init`."""

NEW_CATALOG = """\
# What this project reads, and where it comes from. `dcl sync` puts it into data/.
# Every key, with an example: `dcl schema`, or catalog.example.yaml in the documentation.

version: 1

# Everything as it was at the end of that day; without it, as it is now.
# as_of: 2026-03-01

# How to reach a storage. The standard AWS environment works without any of this.
# storages:
#   lake: {profile: analytics, region: eu-central-1}
#   lab: {endpoint_url: "https://minio.example.com", key: "${LAB_KEY}", secret: "${LAB_SECRET}"}

# Said once for all datasets.
# defaults: {storage: lake, max_age: 10 minutes}

datasets:
  # A single file:
  # customers: s3://bucket/customers/current.parquet
  #
  # Many files, in the folders they have there:
  # orders:
  #   description: Orders, one file a day
  #   source: s3://bucket/orders/year=2026/**/*.parquet
"""
