"""The nearest known word to one that is not known: what stands behind every "did you mean"."""

from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that `word` was most likely meant to be, or None.

    >>> nearest("slaes", ["orders", "sales"])
    'sales'
    """
    from difflib import get_close_matches  # only who misspells a word waits for it

    by_folded = {candidate.casefold(): candidate for candidate in known}
    close = get_close_matches(word.casefold(), by_folded, n=1, cutoff=0.6)
    return by_folded[close[0]] if close else None


def did_you_mean(word: str, known: Iterable[str], *, quote: str = "'") -> str | None:
    """Return the hint `did you mean '…'?`, or None where nothing is near.

    >>> did_you_mean("slaes", ["orders", "sales"])
    "did you mean 'sales'?"
    """
    word_meant = nearest(word, known)
    return None if word_meant is None else f"did you mean {quote}{word_meant}{quote}?"
