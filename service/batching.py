"""Pictures of many requests through one model together: a bounded queue, and one thread that does all the model's work.

Reading begins at once, in the children that all requests share. The thread takes whatever has been read by then for one
pass of the encoder, and runs one search for all pictures whose tasks are equal. It never waits for a batch to fill: an
idle model takes a picture the moment it has been read, so one client alone waits for nobody, and while the model works
the next batch gathers by itself. One thread means one team of OpenMP threads, too.
"""

from __future__ import annotations

import functools
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Protocol, TypeVar, cast

import numpy as np
import numpy.typing as npt

from captioner.errors import ImageError

CLOSE_SECONDS = 2.0
_NEWEST_SHARE = 0.2  # of the newest batch in the running mean of the time that a picture takes

Pixels = npt.NDArray[np.uint8]
Reason = Literal["full", "expired", "gone", "stopping"]
Result = TypeVar("Result")
Result_co = TypeVar("Result_co", covariant=True)


class Encoder(Protocol):
    """What turns pictures into features; one is asked again only after its answer."""

    def read(self, source: bytes, /) -> Future[Pixels]:
        """The pixels (H, W, 3) of one picture, read in the background; the future raises an ImageError."""

    def encode(self, pixels: Pixels, /) -> Any:  # a tensor, of which only rows are taken here
        """The features (N, ...) of `pixels` (N, H, W, 3)."""


class Task(Protocol[Result_co]):
    """What is wanted of pictures. Equal tasks are run together, so a task is hashable."""

    def run(self, features: Any, /) -> Sequence[Result_co]:  # see Encoder.encode
        """One result for each of the N pictures with these `features` (N, ...)."""


class Shed(Exception):
    """A request that the model never saw, or not all of it.

    reason: `full`, there is no room for its pictures; `expired`, its deadline came first; `gone`, its client has left;
    `stopping`, the service takes no more requests.
    """

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What a queue holds, and for how long.

    max_pictures: that may wait for the model, being read or read. A request of more is accepted when none wait.
    max_batch: the most pictures that the model is given at once.
    deadline_seconds: after which a request is given up, unless the model has begun all that is left of it.
    """

    max_pictures: int = 64
    max_batch: int = 32
    deadline_seconds: float = 10.0


DEFAULT_BOUNDS = Bounds()


@dataclass(frozen=True, kw_only=True)
class BatchReport:
    """One batch, for the metrics: how long each picture waited, reading included, and how long the model took."""

    waited_seconds: tuple[float, ...]
    tasks: int
    seconds: float
    failed: bool


@dataclass(eq=False, kw_only=True)
class _Request:
    """What one caller waits for. The lock of the Batching guards it."""

    encoder: Encoder
    task: Task[Any]
    gone: Callable[[], bool]
    begun: float
    expires: float  # when it is given up: seconds, as those of `begun`; infinite for never
    results: list[Any]
    missing: int  # pictures without a result
    waiting: int  # pictures that the model has not been given
    reading: list[Future[Pixels]] = field(default_factory=list)
    error: Exception | None = None
    trace: TracebackType | None = None  # of the error, before anyone raised it again
    over: threading.Event = field(default_factory=threading.Event)  # every result is there, or the error


@dataclass(frozen=True, eq=False)
class _Item:
    """One picture that has been read."""

    request: _Request
    number: int
    pixels: Pixels


class Batching:
    """The queue and its thread. Any number of threads may ask at once; `close` ends it."""

    def __init__(self, bounds: Bounds, *, on_batch: Callable[[BatchReport], None] = lambda _report: None) -> None:
        """Start the thread, which calls `on_batch` after every batch; that must be quick and must not raise."""
        self._bounds = bounds
        self._on_batch = on_batch
        self._changed = threading.Condition()  # its lock is reentrant, which `_end` needs, and guards what follows
        self._requests: set[_Request] = set()  # with pictures that wait
        self._ready: deque[_Item] = deque()
        self._running = 0  # pictures that the model has been given
        self._seconds_a_picture = 0.0  # 0: not measured yet
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self._thread.start()

    @property
    def depth(self) -> int:
        """How many pictures wait or are in the model."""
        with self._changed:
            return self._waiting() + self._running

    @property
    def retry_after_seconds(self) -> int:
        """When the queue of this moment will be empty, by the time that pictures took lately; at least 1."""
        with self._changed:
            return max(1, math.ceil(self.depth * self._seconds_a_picture))

    def results(
        self,
        encoder: Encoder,
        sources: Sequence[bytes],
        task: Task[Result],
        *,
        gone: Callable[[], bool] = lambda: False,
        patient: bool = False,
    ) -> list[Result | ImageError]:
        """What `task` makes of each picture, in order, or why it cannot be used.

        Args:
            gone: whether nobody wants the results any more; asked shortly before the model would begin, under a lock.
            patient: wait as long as it takes.

        Raises:
            Shed: the pictures were not all captioned; see there.
            Exception: what reading, the encoder or the task raised, other than for the picture's sake.
        """
        if not sources:
            return []
        request = self._admit(encoder, task, len(sources), gone, math.inf if patient else self._bounds.deadline_seconds)
        try:
            for number, source in enumerate(sources):
                if request.over.is_set():
                    break
                future = encoder.read(source)
                request.reading.append(future)
                future.add_done_callback(functools.partial(self._was_read, request, number))
        except Exception as error:  # noqa: BLE001  # no reading process starts; the caller hears it below
            with self._changed:
                self._end(request, error)
        if not request.over.wait(None if patient else request.expires - time.monotonic()):
            with self._changed:
                if request.waiting:
                    self._end(request, Shed("expired"))
            request.over.wait()  # what is left of it is in the model
        request.reading.clear()  # their callbacks know the request: a circle that would keep pixels in memory
        if request.error is None:
            return cast("list[Result | ImageError]", request.results)
        # Its traceback is another one. All requests of a batch raise the same error, and each would add to that.
        failure = request.error.with_traceback(request.trace)
        request.error = request.trace = None
        try:
            raise failure
        finally:
            del request, failure

    def close(self, timeout_seconds: float = CLOSE_SECONDS) -> None:
        """Refuse new requests, answer the accepted ones, and end the thread, in so long at most. May be called again.

        A model that hangs would be waited for without end; its thread ends with the process.
        """
        self.stop()
        self._thread.join(timeout_seconds)

    def stop(self) -> None:
        """As `close`, without waiting for it."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _admit(
        self, encoder: Encoder, task: Task[Any], count: int, gone: Callable[[], bool], seconds: float
    ) -> _Request:
        with self._changed:
            if self._closed:
                raise Shed("stopping")
            if self._is_full(count):
                for request in [request for request in self._requests if request.gone()]:
                    self._end(request, Shed("gone"))
                if self._is_full(count):
                    raise Shed("full")
            begun = time.monotonic()
            request = _Request(
                encoder=encoder,
                task=task,
                gone=gone,
                begun=begun,
                expires=begun + seconds,
                results=[None] * count,
                missing=count,
                waiting=count,
            )
            self._requests.add(request)
            return request

    def _waiting(self) -> int:
        return sum(request.waiting for request in self._requests)

    def _is_full(self, count: int) -> bool:
        waiting = self._waiting()
        return waiting > 0 and waiting + count > self._bounds.max_pictures

    def _was_read(self, request: _Request, number: int, future: Future[Pixels]) -> None:
        """Called by the thread that read the picture, or by one that cancels it."""
        with self._changed:
            if request.over.is_set():
                return
            try:
                pixels = future.result()
            except ImageError as error:
                self._leave(request)
                self._deliver(request, number, error)
            except CancelledError:  # the reading children were closed
                self._end(request, Shed("stopping"))
            except Exception as error:  # noqa: BLE001  # raised again by the request's own thread
                self._end(request, error)
            else:
                self._ready.append(_Item(request, number, pixels))
                self._changed.notify_all()

    def _leave(self, request: _Request) -> None:
        """One picture of `request` waits no more."""
        request.waiting -= 1
        if not request.waiting:
            self._requests.discard(request)
            self._changed.notify_all()  # the thread may be waiting for the last one, to end

    def _deliver(self, request: _Request, number: int, result: object) -> None:
        if request.over.is_set():
            return
        request.results[number] = result
        request.missing -= 1
        if not request.missing:
            request.over.set()

    def _end(self, request: _Request, error: Exception) -> None:
        """Give `request` up, unless it is over; what waits of it is forgotten."""
        if request.over.is_set():
            return
        request.error, request.trace = error, error.__traceback__
        request.over.set()
        request.waiting = 0
        self._requests.discard(request)
        self._ready = deque(item for item in self._ready if item.request is not request)
        for future in request.reading:
            future.cancel()  # calls _was_read, which sees that the request is over
        self._changed.notify_all()

    def _run(self) -> None:
        while batch := self._next_batch():
            self._work(batch)
            del batch  # else its pixels would stay in memory until the next one

    def _next_batch(self) -> list[_Item]:
        """Wait for pictures; none when the Batching is closed and all that it accepted has been begun."""
        with self._changed:
            while not (batch := self._take()):
                if self._closed and not self._requests:
                    return []
                self._changed.wait()
            self._running = len(batch)
            return batch

    def _take(self) -> list[_Item]:
        """What has been read and is still wanted, as far as one batch may go and one encoder is meant."""
        now = time.monotonic()
        for request in {item.request for item in self._ready}:
            if now > request.expires:
                self._end(request, Shed("expired"))
            elif request.gone():
                self._end(request, Shed("gone"))
        batch: list[_Item] = []
        while self._ready and len(batch) < self._bounds.max_batch:
            if batch and self._ready[0].request.encoder is not batch[0].request.encoder:
                break
            batch.append(self._ready.popleft())
            self._leave(batch[-1].request)
        return batch

    def _work(self, batch: list[_Item]) -> None:
        begun = time.monotonic()
        rows: dict[Task[Any], list[int]] = {}  # of the batch, by their task
        for row, item in enumerate(batch):
            rows.setdefault(item.request.task, []).append(row)
        failed = False
        try:
            features = batch[0].request.encoder.encode(np.stack([item.pixels for item in batch]))
            for task, wanted in rows.items():
                failed |= not self._perform(task, features if len(rows) == 1 else features[wanted], batch, wanted)
        except Exception as error:  # noqa: BLE001  # raised again by the threads of these requests; this one lives on
            failed = True
            self._fail(batch, error)
        seconds = time.monotonic() - begun
        with self._changed:
            self._running = 0
            share = _NEWEST_SHARE if self._seconds_a_picture else 1.0
            self._seconds_a_picture += share * (seconds / len(batch) - self._seconds_a_picture)
        waited = tuple(begun - item.request.begun for item in batch)
        self._on_batch(BatchReport(waited_seconds=waited, tasks=len(rows), seconds=seconds, failed=failed))

    def _perform(self, task: Task[Any], features: Any, batch: list[_Item], rows: list[int]) -> bool:  # see Encoder
        """Hand out what `task` makes of `rows` of `batch`, at once; False if it failed, alone."""
        items = [batch[row] for row in rows]
        try:
            found = list(task.run(features))
        except Exception as error:  # noqa: BLE001  # as above
            self._fail(items, error)
            return False
        with self._changed:
            for item, result in zip(items, found, strict=True):
                self._deliver(item.request, item.number, result)
        return True

    def _fail(self, items: list[_Item], error: Exception) -> None:
        with self._changed:
            for item in items:
                self._end(item.request, error)
