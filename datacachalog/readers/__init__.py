"""From files on disk to what people compute with: tables, mostly.

Owns the table of formats and the calls into polars, pandas, pyarrow and geopandas. Used by
`catalog`. Knows datasets and paths; knows nothing of storages, caches or the network.
"""

from datacachalog.readers.reading import read

__all__ = ["read"]
