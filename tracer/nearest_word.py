"""The word that a typo was meant to be."""

from __future__ import annotations

from collections.abc import Iterable


def suggestion(word: str, known: Iterable[str]) -> str:
    """A sentence that names the nearest right word, with a space before it; empty where none is near.

    Args:
        word: what was typed.
        known: the right words.
    """
    from difflib import get_close_matches

    by_lower = {each.lower(): each for each in known}
    near = get_close_matches(word.lower(), [*by_lower], n=1)
    return f" Did you mean {by_lower[near[0]]}?" if near else ""
