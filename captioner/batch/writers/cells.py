"""The columns that tables have, and what a spreadsheet must not take for a formula."""

from __future__ import annotations

from captioner.batch.style import TextStyle
from captioner.batch.writers.rows import Row

COLUMNS = ("image", "caption", "confidence", "score", "model", "error")

# What spreadsheets begin a formula with, the wide forms included, and what they skip before it.
_FORMULA_BEGINNINGS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def cells(row: Row, style: TextStyle) -> dict[str, str | float | None]:
    """A row's values by column; None where there is none. The table names the model: there is no other mark."""
    if "error" in row:
        reason = f"{row['error']['type']}: {row['error']['detail']}"
        return {**dict.fromkeys(COLUMNS), "image": row["image"], "error": reason}
    return {
        "image": row["image"],
        "caption": style.text(row),
        "confidence": row["confidence"],
        "score": row["score"],
        "model": row["model"],
        "error": None,
    }


def safe_path(path: str) -> str:
    """A path that no spreadsheet takes for a formula: "./=1.jpg" is the same file as "=1.jpg"."""
    return f"./{path}" if path.startswith(_FORMULA_BEGINNINGS) else path


def safe_text(text: str) -> str:
    """A text that no spreadsheet takes for a formula: an apostrophe stands before one that looks like it."""
    return f"'{text}" if text.startswith(_FORMULA_BEGINNINGS) else text
