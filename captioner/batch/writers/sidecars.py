"""Sidecars: each picture's text in a small file of its own."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from captioner.batch.items import Item
from captioner.batch.policies import Existing, resolve
from captioner.batch.style import TextStyle
from captioner.batch.whole_file import UNENCODABLE, sync_folder, write_whole
from captioner.batch.writers.rows import Row
from captioner.batch.writers.sidecar_names import SidecarNames
from captioner.errors import OutputError
from captioner.ledger import Change

_MARK_OF_ORDER = b"\xef\xbb\xbf"  # some editors begin UTF-8 with it


@dataclass(frozen=True, kw_only=True)
class SidecarWriter:
    """Plans what is written into a picture's sidecar, and does it.

    A job plans, keeps the change in its ledger, and only then applies it: whatever happens in between, what stood there
    before is known. A change can be applied again, and planning again what is written already plans nothing.
    """

    names: SidecarNames
    style: TextStyle
    policy: Existing = Existing.SKIP

    def plan(self, item: Item, row: Row) -> Change | None:
        """What is to be written for a captioned picture, or None if nothing is.

        Raises:
            OutputError: the picture can have no sidecar, there is one that cannot be read, or the policy is ERROR.
        """
        path = self.names.of_item(item)
        before = _read(path)
        new = self.style.document(row)
        if before is None:
            after: bytes | None = new.encode("utf-8", UNENCODABLE)
        else:
            after = self._resolved(before, new, path)
        return None if after is None else Change(target=os.fsencode(path), before=before, after=after)

    def _resolved(self, before: bytes, new: str, path: Path) -> bytes | None:
        adds = self.policy in (Existing.APPEND, Existing.PREPEND)
        head = _MARK_OF_ORDER if adds and before.startswith(_MARK_OF_ORDER) else b""
        try:
            existing = before.removeprefix(_MARK_OF_ORDER).decode("utf-8", "strict" if adds else "replace")
        except UnicodeDecodeError as error:
            raise OutputError(
                f"{path} is not UTF-8, so nothing can be added: convert it, or choose --existing skip or overwrite."
            ) from error
        text = resolve(existing, new, self.policy, where=str(path))
        return None if text is None else head + text.encode("utf-8", UNENCODABLE)


def apply_sidecar(change: Change) -> None:
    """Write what was planned, whole or not at all; nothing if it stands there already.

    Raises:
        OutputError: the file cannot be written, or somebody has changed it since the change was planned.
    """
    path = Path(os.fsdecode(change.target))
    now = _read(path)
    if now == change.after:
        return
    if now != change.before:
        raise OutputError(f"{path} was changed by somebody else while its caption was made: run the job again.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path} could not be written: {error.strerror or error}.") from error
    write_whole(path, change.after)


def revert_sidecar(change: Change) -> bool:
    """Take a change back, unless somebody has edited the file since; whether it stands there now as it did before.

    Raises:
        OutputError: the file cannot be read or written.
    """
    path = Path(os.fsdecode(change.target))
    now = _read(path)
    if now == change.before:
        return True
    if now != change.after:
        return False
    if change.before is not None:
        write_whole(path, change.before)
        return True
    try:
        path.unlink()
        sync_folder(path.parent)
    except OSError as error:
        raise OutputError(f"{path} could not be removed: {error.strerror or error}.") from error
    return True


def _read(path: Path) -> bytes | None:
    """What is in a file, None if there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OutputError(f"{path} could not be read: {error.strerror or error}.") from error
