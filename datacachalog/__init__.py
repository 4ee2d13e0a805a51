"""Named, cached, reproducible data: a `catalog.yaml` in, exact bytes on disk."""

__version__ = "0.1.0"
