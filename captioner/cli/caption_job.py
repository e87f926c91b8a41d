"""What `captioner caption` does when it writes files: one job of a ledger, from its sources to its outputs."""

from __future__ import annotations

import hashlib
import json
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import click

from captioner.batch.items import Item
from captioner.batch.job import Job
from captioner.batch.outputs import OutputFile, Outputs, described
from captioner.batch.policies import Existing
from captioner.batch.selection import Selection
from captioner.batch.sources import find_items, read_list
from captioner.batch.style import TextStyle
from captioner.batch.survey import Survey
from captioner.batch.watch import watch
from captioner.batch.writers.exiftool import ExifTool
from captioner.batch.writers.metadata import MetadataWriter
from captioner.batch.writers.sidecar_names import SidecarNames
from captioner.batch.writers.sidecars import SidecarWriter
from captioner.captions import Outcome
from captioner.cli.progress import JobProgress
from captioner.cli.summary import tell_summary
from captioner.decoding.options import DecodingOptions
from captioner.geometry import Geometry
from captioner.images import DEFAULT_LIMITS, ImageSource
from captioner.ledger import Counts, Ledger
from captioner.manifest import default_bundle, digest_of, read_manifest

LEDGER = ".captioner.ledger"


@dataclass(frozen=True, kw_only=True)
class JobRequest:
    """A folder job as the command line says it; see captioner/cli/job_options.py for what the words mean."""

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
    precision: str
    batch_size: int

    @property
    def ledger_file(self) -> Path:
        """Where the job is recorded: beside what it writes; in memory if that is a device, or nothing."""
        if self.dry_run:
            return Path(":memory:")
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


def run_job(request: JobRequest, choose: Callable[[DecodingOptions], DecodingOptions]) -> int:
    """Do the job; returns the command's exit code.

    Args:
        choose: the decoding options of the command line in place of the bundle's own.
    """
    bundle = default_bundle() if request.bundle is None else request.bundle
    manifest = read_manifest(bundle)
    options = choose(DecodingOptions.from_dict(manifest["decoding"]))
    model = f"{manifest['name']}@{digest_of(bundle)}"
    key, command, settings = request.key(options, model)
    survey = Survey()
    items = _items(request, survey)
    with Ledger(request.ledger_file) as ledger, _stop_signal() as is_to_stop:
        number = ledger.job(key=key, command=command, settings=settings)
        outputs = Outputs(style=request.style, min_confidence=request.min_confidence)
        job = Job(
            ledger=ledger,
            number=number,
            model=model,
            batch_size=request.batch_size,
            max_bytes=DEFAULT_LIMITS.max_bytes,
            shard=request.shard,
            skips=outputs.skips,
            is_to_stop=is_to_stop,
        )
        counts = job.plan(items)
        if counts.total == 0 and not request.watch:
            raise click.ClickException("No pictures found: check the paths and the patterns.")
        with _Work(request, bundle, options, job, outputs) as work:
            if request.dry_run:
                return _tell_plan(request, outputs, job, counts)
            work.caption(counts)
            if request.watch and not is_to_stop():
                _watch(request, survey, work, is_to_stop)
        return tell_summary(job, outputs, survey, request.ledger_file, interrupted=is_to_stop())


class _Work:
    """The model, loaded when there is something to caption, and the outputs."""

    def __init__(self, request: JobRequest, bundle: Path, options: DecodingOptions, job: Job, outputs: Outputs) -> None:
        self.request, self.bundle, self.options, self.job, self.outputs = request, bundle, options, job, outputs
        self._captioner: Any = None  # a Captioner, whose module takes seconds to import
        self._exiftool = ExifTool() if request.metadata else None
        if self._exiftool is not None:
            outputs.metadata = MetadataWriter(style=request.style, exiftool=self._exiftool)
        self._reader: Any = None  # a Reader of small pictures, if a contact sheet is to be made
        outputs.files = [(file, file.writer(self._thumbnail)) for file in request.files]
        self.name_sidecars()

    def name_sidecars(self) -> None:
        """Give every sidecar its place, which depends on all pictures of the job."""
        request = self.request
        if request.sidecar is not None:
            names = SidecarNames.of(self.job.items(), suffix=f".{request.sidecar}", mirror=request.mirror)
            self.outputs.sidecars = SidecarWriter(names=names, style=request.style, policy=request.existing)

    def caption(self, counts: Counts) -> None:
        """Caption what is left, and write everything if nothing is left then."""
        job = self.job
        if counts.pending:
            with JobProgress(counts) as progress:

                def recorded(outcomes: Sequence[Any]) -> None:
                    progress.advance(outcomes)
                    rows = job.rows_of(outcomes, self.outputs.min_confidence)
                    self.outputs.write_texts(job, rows)

                job.on_recorded = recorded
                job.run(self._caption_batches)
        now = job.ledger.counts(job.number)
        if not job.is_to_stop() and (now.done or now.skipped or not now.failed):  # else what is there stays
            self.outputs.publish(job)

    def _caption_batches(self, batches: Iterable[Sequence[ImageSource]]) -> Iterator[list[Outcome]]:
        """As Captioner.stream_batches; the model is loaded when the first batch has something for it."""
        rest = iter(batches)
        for batch in rest:
            if not batch:
                yield []
                continue
            yield from self._model().stream_batches(_with(batch, rest), self.options)

    def _model(self) -> Any:
        if self._captioner is None:
            from captioner.prediction import Captioner

            ledger, number = self.job.ledger, self.job.number
            precision = ledger.settled(number, "precision") or self.request.precision
            self._captioner = Captioner.from_bundle(self.bundle, device=self.request.device, precision=precision)
            # the timed probe may choose otherwise next time: a job keeps to one precision
            ledger.settle(number, "precision", self._captioner.precision)
        return self._captioner

    def _thumbnail(self, item: Item) -> bytes | None:
        from captioner.errors import ImageError
        from captioner.pictures.cards import DISPLAY_SIZE, DisplayPicture
        from captioner.reader import Reader

        if self._reader is None:
            self._reader = Reader(Geometry(resize="fit", size=DISPLAY_SIZE))
        try:
            return DisplayPicture.of(self._reader.submit(item.load()).result()).jpeg
        except ImageError:
            return None

    def __enter__(self) -> _Work:
        return self

    def __exit__(self, *of_error: object) -> None:
        for part in (self._captioner, self._reader, self._exiftool):
            if part is not None:
                part.close()


def _items(request: JobRequest, survey: Survey) -> Iterator[Item]:
    listed = [] if request.list_file is None else read_list(request.list_file)
    return find_items(request.paths, request.selection, survey, listed=listed)


def _watch(request: JobRequest, survey: Survey, work: _Work, is_to_stop: Callable[[], bool]) -> None:
    """Take new pictures into the job as they are complete, and write everything after each lot."""
    known = {item.source: item for item in work.job.items()}
    for found in watch(request.paths, request.selection, survey):
        known.update((item.source, item) for item in found)
        counts = work.job.plan(item for _, item in sorted(known.items()))
        work.name_sidecars()
        work.caption(counts)
        if is_to_stop():
            return


def _tell_plan(request: JobRequest, outputs: Outputs, job: Job, counts: Counts) -> int:
    """What would be done."""
    skipped = sum(outputs.skips(item) for item in job.items())
    click.echo(f"{counts.pending - skipped} pictures would be captioned.")
    if skipped:
        click.echo(f"{skipped} pictures would be skipped: their texts are there already.")
    for file, _ in outputs.files:
        click.echo(f"{file.path} would be {'replaced' if file.path.exists() else 'written'} ({file.format}).")
    if outputs.sidecars is not None:
        where = "beside the pictures" if request.mirror is None else f"in {request.mirror}"
        click.echo(f"A .{request.sidecar} file would be written {where}; existing ones: {request.existing}.")
    if request.metadata:
        click.echo("Texts would be written into the pictures, where no person has.")
    return 0


@contextmanager
def _stop_signal() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C was pressed once, which lets the batches in flight finish; twice, it interrupts at once."""
    pressed = False

    def press(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True
        click.echo("\nFinishing the batches in flight; press Ctrl-C again to stop at once.", err=True)

    before = signal.signal(signal.SIGINT, press)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)


def _with(first: Sequence[ImageSource], rest: Iterator[Sequence[ImageSource]]) -> Iterator[Sequence[ImageSource]]:
    yield first
    yield from rest


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()
