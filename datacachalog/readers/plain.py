"""Readers that need nothing but Python: text and bytes."""

from pathlib import Path


def read_text(path: Path, *, encoding: str = "utf-8") -> str:
    """Return the file's text."""
    return path.read_text(encoding=encoding)


def read_bytes(path: Path) -> bytes:
    """Return the file's bytes."""
    return path.read_bytes()
