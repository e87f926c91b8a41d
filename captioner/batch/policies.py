"""What is done with a text that is there already: `--existing`."""

from __future__ import annotations

from enum import StrEnum

from captioner.errors import OutputError


class Existing(StrEnum):
    """What becomes of an existing text when there is a new one."""

    SKIP = "skip"  # it stays
    OVERWRITE = "overwrite"  # the new one takes its place
    APPEND = "append"  # the new one comes after it, on lines of its own
    PREPEND = "prepend"  # the new one comes before it
    ERROR = "error"  # it stays, and that is an error


def resolve(existing: str | None, new: str, policy: Existing, *, where: str) -> str | None:
    """The whole text that is written, or None if nothing is.

    A text of white space only says nothing, and is treated as absent. Whoever resolves twice gets what resolving once
    gives: no new text is added to one that has its lines already, one after the other, wherever they stand.

    Args:
        existing: what is there, or None.
        new: what is to be written, with the line feed at its end if it shall have one.
        policy: what to do if both are there.
        where: names the place in the message of an error.

    Raises:
        OutputError: there is another text, and the policy is ERROR.
    """
    if existing is None or not existing.strip():
        return None if existing == new else new
    if existing == new or policy is Existing.SKIP:
        return None
    if policy is Existing.OVERWRITE:
        return new
    if policy is Existing.ERROR:
        raise OutputError(
            f"{where} has a text already: choose --existing skip, overwrite, append or prepend, or move it away."
        )
    if _has(existing, new):
        return None
    line_feed = "\r\n" if "\r\n" in existing else "\n"
    added = line_feed.join(_lines(new))
    if policy is Existing.PREPEND:
        return added + line_feed + existing
    gap = "" if existing.endswith("\n") else line_feed
    return existing + gap + added + line_feed


def _has(existing: str, new: str) -> bool:
    """Whether the lines of `new` stand in `existing`, one after the other."""
    there, wanted = _lines(existing), _lines(new)
    return any(there[start : start + len(wanted)] == wanted for start in range(len(there) - len(wanted) + 1))


def _lines(text: str) -> list[str]:
    """The lines of a text without white space around them; empty ones at the text's ends are left out."""
    # Not splitlines, which also splits at characters that may be part of a text, such as U+2028.
    return [line.strip() for line in text.strip().split("\n")]
