"""What `captioner caption` does when it writes files: one job of a ledger, from its sources to its outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import click

from captioner.batch.batch_captioner import BatchCaptioner, OpenCaptioner, open_captioner
from captioner.batch.devices import Devices
from captioner.batch.items import Item
from captioner.batch.job import Job, item_of
from captioner.batch.outputs import OutputFile, Outputs
from captioner.batch.sources import find_items, read_list
from captioner.batch.survey import Survey
from captioner.batch.watch import watch
from captioner.batch.writers.contact_sheet import Thumbnail
from captioner.batch.writers.exiftool import ExifTool
from captioner.batch.writers.metadata import MetadataWriter
from captioner.batch.writers.sidecar_names import SidecarNames
from captioner.batch.writers.sidecars import SidecarWriter
from captioner.captions import Outcome
from captioner.cli.job_request import JobRequest
from captioner.cli.progress import JobProgress
from captioner.cli.stop_signal import sleep_until, stopping
from captioner.cli.summary import tell_summary
from captioner.decoding.options import DecodingOptions
from captioner.images import DEFAULT_LIMITS, ImageSource
from captioner.ledger import Counts, Done, Ledger
from captioner.manifest import default_bundle, digest_of, read_manifest


def run_job(
    request: JobRequest,
    choose: Callable[[DecodingOptions], DecodingOptions],
    open_captioner: OpenCaptioner = open_captioner,
) -> int:
    """Do the job; returns the command's exit code.

    Args:
        choose: the decoding options of the command line in place of the bundle's own.
        open_captioner: is called when there is something to caption; for several devices, a function of a module.
    """
    bundle = default_bundle() if request.bundle is None else request.bundle
    manifest = read_manifest(bundle)
    options = choose(DecodingOptions.from_dict(manifest["decoding"]))
    model = f"{manifest['name']}@{digest_of(bundle)}"
    key, command, settings = request.key(options, model)
    survey = Survey()
    items = _items(request, survey)
    with ExitStack() as parts:
        outputs = Outputs(style=request.style, min_confidence=request.min_confidence)
        if request.metadata:
            exiftool = parts.enter_context(ExifTool())
            outputs.metadata = MetadataWriter(style=request.style, exiftool=exiftool)
        thumbnail = thumbnail_maker(request.files, parts)
        outputs.files = [(file, file.writer(thumbnail)) for file in request.files]
        is_to_stop = parts.enter_context(stopping())
        # What is missing is known by now: from here on the ledger is written, but not by a dry run.
        if request.mirror is not None and not request.dry_run:
            request.mirror.mkdir(parents=True, exist_ok=True)
        begin = Ledger.copied if request.dry_run else Ledger
        ledger = parts.enter_context(begin(request.ledger_file))
        job = Job(
            ledger=ledger,
            number=ledger.job(key=key, command=command, settings=settings),
            model=model,
            share=request.share,
            max_bytes=DEFAULT_LIMITS.max_bytes,
            skips=outputs.skips,
            on_waiting=lambda: click.echo("Waiting for others that work on the same job.", err=True),
            is_to_stop=is_to_stop,
        )
        work = _Work(request, job, outputs, partial(_opened, open_captioner, request, bundle, job), options)
        parts.callback(work.close)
        if request.devices > 1:
            is_to_stop.at_once = work.close
        new = _watched(request, survey, is_to_stop)
        counts = job.plan(items)
        if new is None and counts.total == 0 and next(job.items(), None) is None:
            raise click.ClickException("No pictures found: check the paths and the patterns.")
        if request.dry_run:
            work.name_sidecars()
            return _tell_plan(request, outputs, job)
        work.caption(counts)
        if new is not None:
            work.watch(new)
        return tell_summary(job, outputs, survey, request.ledger_file, stop_code=is_to_stop.exit_code)


def thumbnail_maker(files: Iterable[OutputFile], parts: ExitStack) -> Thumbnail:
    """What makes the pictures of a contact sheet, if there is one among `files`; it is ended with `parts`."""
    if all(file.format != "sheet" for file in files):
        return lambda item: None
    from captioner.batch.thumbnails import Thumbnails

    return parts.enter_context(Thumbnails())


class _Work:
    """A job with its model, which is loaded when there is something to caption, and its outputs."""

    def __init__(
        self,
        request: JobRequest,
        job: Job,
        outputs: Outputs,
        opened: Callable[[], BatchCaptioner],
        options: DecodingOptions,
    ) -> None:
        self._request, self._job, self._outputs, self._opened, self._options = request, job, outputs, opened, options
        self._captioner: BatchCaptioner | None = None

    def name_sidecars(self) -> None:
        """Give every sidecar its place, which depends on all pictures of the job."""
        request = self._request
        if request.sidecar is not None:
            names = SidecarNames.of(self._job.items(), suffix=f".{request.sidecar}", mirror=request.mirror)
            self._outputs.sidecars = SidecarWriter(names=names, style=request.style, policy=request.existing)

    def caption(self, counts: Counts) -> None:
        """Caption what is left, and write everything if nothing is left then; `counts` is how far the job is."""
        job, outputs = self._job, self._outputs
        if counts.pending or not outputs.is_published(job):
            self.name_sidecars()
        if counts.pending:
            if outputs.have_texts:
                job.write_texts = self._write_texts
            with JobProgress(counts) as progress:
                job.on_recorded = progress.advance
                job.run(self._caption_batches)
            counts = job.counts()
        if not job.is_to_stop():
            self._publish(counts)

    def watch(self, new: Iterator[list[Item]]) -> None:
        """Take new pictures into the job as they are complete, and write everything after each lot.

        Ctrl-C is how this ends, so what is done by then is written, even if some of a lot is left.
        """
        known = {item.source: item for item in self._job.items()}
        for found in new:
            known.update((item.source, item) for item in found)
            self.caption(self._job.plan(item for _, item in sorted(known.items())))
            if self._job.is_to_stop():
                break
        self._publish(self._job.counts())

    def close(self) -> None:
        """End the model."""
        if self._captioner is not None:
            self._captioner.close()

    def _publish(self, counts: Counts) -> None:
        if counts.done or counts.skipped or not counts.failed:  # else what is there stays
            self._outputs.publish(self._job)

    def _write_texts(self, outcomes: Sequence[Done]) -> None:
        rows = self._job.rows_of(outcomes, self._outputs.min_confidence)
        self._outputs.write_texts(self._job, rows)

    def _caption_batches(self, batches: Iterable[Sequence[ImageSource]]) -> Iterator[list[Outcome]]:
        """As Captioner.stream_batches; the model is loaded when the first batch has something for it."""
        rest = iter(batches)
        for batch in rest:
            if not batch:
                yield []
                continue
            if self._captioner is None:
                self._captioner = self._opened()
            yield from self._captioner.stream_batches(_with(batch, rest), self._options)


def _opened(open_captioner: OpenCaptioner, request: JobRequest, bundle: Path, job: Job) -> BatchCaptioner:
    precision = job.ledger.settled(job.number, "precision") or request.precision
    if request.devices > 1:
        tell = partial(click.echo, err=True)
        captioner: BatchCaptioner = Devices(
            request.devices, open_captioner, bundle=bundle, device=request.device, precision=precision, tell=tell
        )
    else:
        captioner = open_captioner(bundle, request.device, precision, None)
    # The timed probe may choose otherwise next time: a job keeps to one precision.
    job.ledger.settle(job.number, "precision", captioner.precision)
    return captioner


def _items(request: JobRequest, survey: Survey) -> Iterator[Item]:
    listed = [] if request.list_file is None else read_list(request.list_file)
    return find_items(request.paths, request.selection, survey, listed=listed)


def _watched(request: JobRequest, survey: Survey, is_to_stop: Callable[[], bool]) -> Iterator[list[Item]] | None:
    if not request.watch:
        return None
    return watch(request.paths, request.selection, survey, sleep=partial(sleep_until, is_to_stop))


def _tell_plan(request: JobRequest, outputs: Outputs, job: Job) -> int:
    """What would be done."""
    pending = [
        item_of(standing.entry) for standing in job.ledger.standings(job.number, job.share) if standing.row is None
    ]
    skipped = sum(map(outputs.skips, pending))
    click.echo(f"{len(pending) - skipped} pictures would be captioned.")
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


def _with(first: Sequence[ImageSource], rest: Iterator[Sequence[ImageSource]]) -> Iterator[Sequence[ImageSource]]:
    yield first
    yield from rest
