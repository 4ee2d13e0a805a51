"""Named, cached, reproducible data: a `catalog.yaml` in, exact bytes on disk.

>>> from datacachalog import Catalog, Dataset
>>> Catalog([Dataset(name="iris", source="raw/iris.csv")], root="/tmp/project")
Catalog('/tmp/project', 1 datasets)
"""

from lazy_loader import attach_stub

__version__ = "0.1.0"

# The names are imported when they are first used: `dcl --version` does not pay for pydantic.
__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
