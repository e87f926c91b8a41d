"""The options of a folder job: which pictures, what is written where, and in which words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., object])

_FOLDER = click.Path(path_type=Path, file_okay=False)
_OPTIONS = (
    click.option("--from-file", metavar="LIST", help="Also the pictures in LIST, a path a line; - is standard input."),
    click.option("--include", metavar="PATTERN", multiple=True, help="Only files that match, such as '2024/*.jpg'."),
    click.option("--exclude", metavar="PATTERN", multiple=True, help="No files or folders that match, such as 'raw/'."),
    click.option("--hidden", is_flag=True, help="Hidden files and folders too."),
    click.option("--follow-links", is_flag=True, help="Links to folders too."),
    click.option(
        "--output",
        metavar="[FORMAT:]FILE",
        multiple=True,
        help="Write all captions to FILE, which appears when all are done: .jsonl, .csv, .parquet, .tar (shards), "
        ".html (contact sheet), coco:FILE.json, alt:FILE.json. May be given several times.",
    ),
    click.option(
        "--format",
        "output_format",
        type=click.Choice(["jsonl", "csv", "parquet", "coco", "alt", "shards", "sheet"]),
        help="The format of the one --output.",
    ),
    click.option(
        "--sidecar",
        type=click.Choice(["txt", "caption"]),
        help="Write a text beside each picture: a.txt or a.caption for a.jpg.",
    ),
    click.option("--mirror", metavar="FOLDER", type=_FOLDER, help="Write the sidecars into a tree of their own."),
    click.option("--metadata", is_flag=True, help="Write texts into the pictures (XMP, IPTC, EXIF), through exiftool."),
    click.option(
        "--existing",
        type=click.Choice(["skip", "overwrite", "append", "prepend", "error"]),
        default="skip",
        show_default=True,
        help="What becomes of a sidecar that is there already.",
    ),
    click.option(
        "--template", default="{caption}", show_default=True, help="Also {stem} {name} {folder} {confidence}."
    ),
    click.option("--prefix", default="", help="Text before each caption."),
    click.option("--suffix", default="", help="Text after each caption."),
    click.option("--alt", is_flag=True, help="As alternative text: a sentence of 125 characters at most."),
    click.option("--max-characters", type=click.IntRange(10), help="Cut longer texts after a word."),
    click.option("--mark", is_flag=True, help="Say in the text that a machine wrote it."),
    click.option(
        "--min-confidence",
        type=click.FloatRange(0.0, 1.0),
        default=0.0,
        help="Captions that are less sure are listed for a person, not written.",
    ),
    click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing."),
    click.option("--watch", is_flag=True, help="Go on with new pictures in the folders, until Ctrl-C."),
    click.option("--shard", metavar="I/N", help="The I-th of N equal shares; captioner merge joins them."),
    click.option(
        "--devices",
        metavar="N",
        type=click.IntRange(1),
        default=1,
        show_default=True,
        help="How many models caption at once: one a GPU with --device cuda; with cpu they share the processor.",
    ),
    click.option(
        "--ledger",
        metavar="FILE",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Where the job is recorded; .captioner.ledger beside what it writes, if not given.",
    ),
)


def job_options(command: Command) -> Command:
    """Add them all to a click command."""
    for option in reversed(_OPTIONS):  # the decorator applied last is listed first
        command = option(command)
    return command
