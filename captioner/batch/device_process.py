"""What the process of one device runs: a model that captions the batches that come over a connection.

The first message that comes is a Setup; the answer is the precision. Every other is a batch with its options; the
answer is the outcomes, in the order of the batches. A CaptionerError in the place of an answer is the last one. The end
of the connection, which comes as well when the parent is killed, ends the process.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from queue import Empty, SimpleQueue

from captioner.batch.batch_captioner import BatchCaptioner, OpenCaptioner
from captioner.batch.group_signals import GROUP_SIGNALS
from captioner.captions import Caption
from captioner.decoding.options import DecodingOptions
from captioner.errors import CaptionerError, ImageError
from captioner.images import ImageSource

Answer = list[tuple[Caption | None, ImageError | None]]  # of a batch: an Outcome of each source, without the source
Arrived = SimpleQueue["Work | None"]  # None: the end


@dataclass(frozen=True, kw_only=True)
class Setup:
    """How the model is opened.

    Attributes:
        environment: is set before anything reads it.
        open_captioner: a function of a module, which the process imports.
        processes: how many children read pictures.
    """

    environment: Mapping[str, str]
    open_captioner: OpenCaptioner
    bundle: Path
    device: str
    precision: str
    processes: int


@dataclass(frozen=True, kw_only=True)
class Work:
    """A batch."""

    batch: Sequence[ImageSource]
    options: DecodingOptions | None


def main(descriptor: int) -> None:
    """Serve the connection with this descriptor until its end."""
    # The parent decides when to stop: a terminal's Ctrl-C or an orchestrator's SIGTERM must not cost pictures.
    for number in GROUP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, GROUP_SIGNALS)  # the parent withheld them until now
    with Connection(descriptor) as connection:
        try:
            _serve(connection)
        except (EOFError, ConnectionError):
            return  # the parent has gone


def _serve(connection: Connection) -> None:
    setup: Setup = connection.recv()
    os.environ.update(setup.environment)
    try:
        captioner = setup.open_captioner(setup.bundle, setup.device, setup.precision, setup.processes)
        try:
            connection.send(captioner.precision)
            _caption(connection, captioner)
        finally:
            captioner.close()
    except CaptionerError as error:
        connection.send(error)


def _caption(connection: Connection, captioner: BatchCaptioner) -> None:
    arrived: Arrived = SimpleQueue()
    # What comes is taken in at once: the parent must not wait for us while we wait for it to take an answer.
    threading.Thread(target=_receive, args=(connection, arrived), daemon=True).start()
    while (first := arrived.get()) is not None:
        for outcomes in captioner.stream_batches(_batches(first, arrived), first.options):
            answer: Answer = [(outcome.caption, outcome.error) for outcome in outcomes]
            connection.send(answer)


def _receive(connection: Connection, arrived: Arrived) -> None:
    try:
        while True:
            arrived.put(connection.recv())
    except (EOFError, OSError):
        arrived.put(None)


def _batches(first: Work, arrived: Arrived) -> Iterator[Sequence[ImageSource]]:
    """The batches that are here. It ends rather than wait: what was begun is then answered while the next one comes."""
    work: Work | None = first
    while work is not None:
        yield work.batch
        try:
            work = arrived.get_nowait()
        except Empty:
            return
    arrived.put(None)
