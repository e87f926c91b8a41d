"""What the report and the contact sheet have in common as files: one page each, which opens from disk with no network.

Such a page holds its style and its script itself, and its Content-Security-Policy names both by their hashes.
Its style is the family's, family.css, and after it its own. The service's page has the same family style from a route.
"""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Protocol

FOLDER = Path(__file__).parent
FAMILY = "family.css"


class TextSink(Protocol):
    """What a page is written to: an open text file (UTF-8) or a WholeFile."""

    def write(self, text: str, /) -> object:
        """Appends `text`."""


def read(name: str) -> str:
    """The text of a file that lies beside this one."""
    return (FOLDER / name).read_text(encoding="utf-8")


def style_and_script(name: str) -> dict[str, str]:
    """What NAME.html has under $style, $style_hash, $script and $script_hash: from family.css, NAME.css and NAME.js."""
    style, script = f"{read(FAMILY)}\n{read(f'{name}.css')}", read(f"{name}.js")
    return {"style": style, "style_hash": _hash(style), "script": script, "script_hash": _hash(script)}


def _hash(content: str) -> str:
    """As Content Security Policy Level 3, section 2.3.1, has it."""
    return f"'sha256-{b64encode(sha256(content.encode()).digest()).decode()}'"
