"""What the environment decides: the cache folder, how much at once, the umask.

Read once per process or per call, never written. A command-line option or a catalog key
that is set stands above what is here.
"""

import os
from collections.abc import Mapping
from pathlib import Path

DEFAULT_JOBS = 16
"""Threads of a pool: enough to hide some latency, few enough for two cores."""

MAX_JOBS = 256


def cache_dir(configured: str | os.PathLike[str] | None, environ: Mapping[str, str]) -> Path:
    """Return the shared cache folder: `DCL_CACHE_DIR`, else `configured`, else the platform's.

    The folder need not exist. `~` is expanded.
    """
    chosen = environ.get("DCL_CACHE_DIR") or configured
    if chosen is None:
        # A tenth of the time of `dcl list`, and only needed where nothing else is said.
        import platformdirs

        return platformdirs.user_cache_path("datacachalog", appauthor=False)
    return Path(os.path.abspath(os.path.expanduser(chosen)))


def most_requests(jobs: int | None) -> int:
    """Return how many requests may be under way at most: `jobs`, else as many as ever pay.

    A connection takes a descriptor, and half of those that the process may have are left alone.
    """
    import resource

    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if descriptors == resource.RLIM_INFINITY:
        descriptors = 2 * MAX_JOBS
    return max(1, min(jobs or MAX_JOBS, MAX_JOBS, descriptors // 2))


def umask() -> int:
    """Return the process's umask without racing other threads where the system lets us."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:
            for line in status:
                if line.startswith("Umask:"):
                    return int(line.split()[1], 8)
    except OSError:
        pass
    # The only portable way to read it is to set it.
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
