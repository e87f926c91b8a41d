"""Text for a terminal."""

from __future__ import annotations


def printable(text: object) -> str:
    """`text` as one line: what a terminal would obey or could not show is replaced."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in str(text))
