"""A folder job as the command line says it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from captioner.batch.outputs import OutputFile, described
from captioner.batch.policies import Existing
from captioner.batch.selection import Selection
from captioner.batch.style import TextStyle
from captioner.decoding.options import DecodingOptions
from captioner.ledger import Share

LEDGER = ".captioner.ledger"


@dataclass(frozen=True, kw_only=True)
class JobRequest:
    """What is to be captioned, how, and what is written; see captioner/cli/job_options.py for what the words mean."""

    paths: tuple[Path, ...]
    list_file: str | None
    selection: Selection
    files: tuple[OutputFile, ...]
    sidecar: str | None
    mirror: Path | None
    metadata: bool
    existing: Existing
    style: TextStyle
    min_confidence: float
    dry_run: bool
    watch: bool
    shard: tuple[int, int]
    ledger: Path | None
    bundle: Path | None
    device: str
    devices: int
    precision: str
    batch_size: int

    @property
    def share(self) -> Share:
        """The batches that are this command's."""
        return Share(batch_size=self.batch_size, shard=self.shard)

    @property
    def is_job(self) -> bool:
        """Whether anything is recorded or written; else captions are printed."""
        return bool(self.files or self.sidecar or self.metadata or self.ledger)

    @property
    def ledger_file(self) -> Path:
        """Where the job is recorded: beside what it writes; in memory if that is a device, or nothing."""
        if self.ledger is not None:
            return self.ledger
        if self.files:
            first = next((file.path for file in self.files if not file.path.is_relative_to("/dev")), None)
            return Path(":memory:") if first is None else first.parent / LEDGER
        top = self.mirror or (self.paths[0] if self.paths else Path())
        return (top if top.is_dir() or top == self.mirror else top.parent) / LEDGER

    def key(self, options: DecodingOptions, model: str) -> tuple[str, dict[str, Any], str]:
        """The digest of the command, the command for people, and the digest of what captions depend on."""
        settings = {"model": model, "precision": self.precision, **options.to_dict()}
        command = {
            "folder": str(Path.cwd()),
            "paths": [str(path) for path in self.paths],
            "list": self.list_file,
            "include": self.selection.include,
            "exclude": self.selection.exclude,
            "hidden": self.selection.hidden,
            "follow_links": self.selection.follow_links,
            "outputs": described(self.files),
            "sidecar": self.sidecar,
            "mirror": None if self.mirror is None else str(self.mirror.absolute()),
            "metadata": self.metadata,
            "existing": str(self.existing),
            "style": asdict(self.style),
            "min_confidence": self.min_confidence,
            "shard": self.shard,
            "batch_size": self.batch_size,
            "settings": settings,
        }
        return _digest(command), command, _digest(settings)


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()
