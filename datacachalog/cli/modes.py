"""What `--locked`, `--frozen` and `--no-lock` make of the lock."""

from datacachalog.cli.app import UsageError


def lock_mode(*, locked: bool, frozen: bool, no_lock: bool) -> str:
    """Return what the lock means to a run, as `load_catalog` takes it.

    The three options exclude each other.
    """
    chosen = [
        (mode, flag)
        for is_given, mode, flag in (
            (locked, "locked", "--locked"),
            (frozen, "frozen", "--frozen"),
            (no_lock, "ignore", "--no-lock"),
        )
        if is_given
    ]
    if len(chosen) > 1:
        raise UsageError(f"`{chosen[0][1]}` and `{chosen[1][1]}` exclude each other")
    return chosen[0][0] if chosen else "obey"
