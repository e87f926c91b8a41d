"""COCO's results JSON: a list of {"image_id", "caption"}, which scorers of captions read."""

from __future__ import annotations

from pathlib import Path

from captioner.batch.style import TextStyle
from captioner.batch.whole_file import WholeTextFile
from captioner.batch.writers.rows import Rows, captioned, one_line


def write_coco(rows: Rows, target: Path, style: TextStyle) -> None:
    """One object a captioned picture; its `image_id` is the picture's name, since a folder knows no numbers.

    With `style.mark`, each object also names the model; scorers pass over it.

    Raises:
        OutputError: the file cannot be written.
    """
    with WholeTextFile(target) as file:
        before = "[\n"
        for _, row in captioned(rows):
            made_by = {"model": row["model"]} if style.mark else {}
            file.write(before + one_line({"image_id": row["image"], "caption": style.text(row), **made_by}))
            before = ",\n"
        file.write("\n]\n" if before == ",\n" else "[]\n")
