"""Read pictures in child processes that may crash, hang or run out of memory without harm to anyone else.

A decoder is C code that parses what strangers send. Each child runs read_image and Geometry (reader_child.py) under a
memory limit, and each has one thread here that hands it one picture at a time (reader_process.py) and replaces it when
it dies or is late. Children are plain subprocesses, so a script that uses this needs no `if __name__ == "__main__"`.
"""

from __future__ import annotations

import atexit
import json
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType

from captioner.errors import CaptionerError, ConfigurationError, ImageError, UnreadableImage
from captioner.geometry import Geometry
from captioner.images import DEFAULT_LIMITS, ImageLimits, ImageSource
from captioner.reader_process import Child, ChildLost, Pixels

_MAX_PROCESSES = 8
_START_ATTEMPTS = 3  # one failure may be chance: the machine was out of memory, or someone killed the process
_MIN_MEMORY_BYTES = 64 * 2**20


class Reader:
    """A pool of reading processes; a context manager, and safe to use from many threads at once.

    The processes start with the Reader and get ready while the caller goes on, for example to load a model.

    Args:
        geometry: what every picture is resized and cropped to.
        limits: the most bytes and pixels of a picture.
        processes: how many children; None: one a CPU, at most 8.
        max_memory_bytes: the address space of a child, at least 64 MiB, of which Python and Pillow take 30. The
            default is enough for 50 million pixels of every format.
        timeout_seconds: from handing over a picture to having its pixels.

    Raises:
        ConfigurationError: a number is too small.
        CaptionerError: the machine has no room for another process.
    """

    def __init__(
        self,
        geometry: Geometry,
        *,
        limits: ImageLimits = DEFAULT_LIMITS,
        processes: int | None = None,
        max_memory_bytes: int = 2**30,
        timeout_seconds: float = 10.0,
    ) -> None:
        count = min(os.cpu_count() or 1, _MAX_PROCESSES) if processes is None else processes
        for name, value, least in (
            ("processes", count, 1),
            ("max_memory_bytes", max_memory_bytes, _MIN_MEMORY_BYTES),
        ):
            if value < least:
                raise ConfigurationError(f"{name} must be at least {least}, not {value}.")
        if timeout_seconds <= 0:
            raise ConfigurationError(f"timeout_seconds must be positive, not {timeout_seconds}.")
        self._geometry = geometry
        self._max_bytes = limits.max_bytes
        self._timeout_seconds = timeout_seconds
        self._configuration = json.dumps(
            {
                "geometry": geometry.to_dict(),
                "limits": asdict(limits),
                "max_memory_bytes": max_memory_bytes,
                "timeout_seconds": timeout_seconds,
            }
        )
        self._jobs: SimpleQueue[tuple[ImageSource, Future[Pixels]] | None] = SimpleQueue()
        self._lock = threading.Lock()  # guards _closed and _children
        self._closed = False
        self._children: dict[int, Child] = {}
        try:
            for slot in range(count):
                self._children[slot] = Child(self._configuration)
        except CaptionerError:
            for child in self._children.values():
                child.stop()
            raise
        self._threads = [
            threading.Thread(target=self._supervise, args=(slot,), name=f"reader-{slot}", daemon=True)
            for slot in range(count)
        ]
        for thread in self._threads:
            thread.start()
        atexit.register(self.close)

    def submit(self, source: ImageSource) -> Future[Pixels]:
        """Read one picture in the background.

        Args:
            source: the bytes of an encoded picture, or a path, which the child itself opens.

        Returns:
            A future of uint8 (H, W, 3), H = W = geometry.size. It raises an ImageError if the picture cannot be used,
            a CaptionerError if no reading process can be started, and is cancelled if the Reader is closed before.

        Raises:
            RuntimeError: the Reader is closed.
            TypeError: the source is neither bytes nor a path.
        """
        if not isinstance(source, bytes):
            path = Path(os.fsdecode(source))
            source = str(path if path.is_absolute() else Path.cwd() / path)  # the child works in another directory
        future: Future[Pixels] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError("The Reader is closed: make a new one.")
            self._jobs.put((source, future))
        return future

    def stream(self, sources: Iterable[ImageSource], *, ahead: int) -> Iterator[Pixels | ImageError]:
        """Read many pictures, in order; each source gives exactly one item, and a failure is an item too.

        Args:
            sources: taken one by one, only as fast as items are consumed.
            ahead: the most pictures that are being read or wait to be consumed, at least 1.

        Returns:
            Pixels, uint8 (H, W, 3), or the ImageError of that picture.

        Raises:
            ValueError: ahead is not positive.
        """
        if ahead < 1:
            raise ValueError(f"ahead must be at least 1, not {ahead}.")
        return self._stream(sources, ahead)

    def _stream(self, sources: Iterable[ImageSource], ahead: int) -> Iterator[Pixels | ImageError]:
        window: deque[Future[Pixels]] = deque()
        try:
            for source in sources:
                window.append(self.submit(source))
                if len(window) == ahead:  # as full as it may be before anybody is served: reading never pauses
                    yield _outcome(window.popleft())
            while window:
                yield _outcome(window.popleft())
        finally:
            for future in window:
                future.cancel()

    @property
    def child_pids(self) -> tuple[int, ...]:
        """The process ids of the children; one that has just died stays until its replacement."""
        with self._lock:
            return tuple(child.pid for child in self._children.values())

    def close(self) -> None:
        """End the children and the threads at once; pictures not read by then are cancelled. May be called again."""
        with self._lock:
            if not self._closed:
                self._closed = True
                for child in self._children.values():
                    child.kill()  # its thread sees the end of the stream
                for _ in self._threads:
                    self._jobs.put(None)
        for thread in self._threads:
            if thread is not threading.current_thread():  # a future's callback may call this
                thread.join()
        atexit.unregister(self.close)

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _supervise(self, slot: int) -> None:
        """One thread's life: one picture at a time to its child, a new child whenever it is gone."""
        while (job := self._jobs.get()) is not None:
            self._serve(slot, *job)
            del job  # else the last picture would stay in memory until the next one comes
        with self._lock:
            child = self._children.pop(slot)
        child.stop()

    def _serve(self, slot: int, source: ImageSource, future: Future[Pixels]) -> None:
        if self._closed:
            future.cancel()
        if not future.set_running_or_notify_cancel():
            return
        try:
            pixels = self._read(slot, source)
        # Passed on to whoever waits for the picture, as concurrent.futures does; were it raised here, this thread
        # would end and every picture after it would wait for ever.
        except BaseException as error:  # noqa: BLE001
            future.set_exception(error)
        else:
            future.set_result(pixels)
        # A lost child is replaced now, so that the new one is ready when the next picture comes. Should that fail, the
        # next picture tries again and tells.
        with suppress(CaptionerError, CancelledError):
            self._living_child(slot)

    def _read(self, slot: int, source: ImageSource) -> Pixels:
        child = self._ready_child(slot)
        try:
            return child.read(source, self._geometry, self._max_bytes, self._timeout_seconds)
        except ChildLost as lost:
            if self._closed:
                raise CancelledError from None
            raise UnreadableImage(f"The picture could not be read ({lost}): use a smaller or an intact one.") from None

    def _ready_child(self, slot: int) -> Child:
        for _ in range(_START_ATTEMPTS):
            child = self._living_child(slot)
            try:
                child.wait_until_ready()
                return child
            except ChildLost as lost:
                cause = lost
        raise CaptionerError(
            f"No picture can be read, because a reading process does not start ({cause}): "
            "run python -c 'import captioner.reader_child' to see why."
        )

    def _living_child(self, slot: int) -> Child:
        """The slot's child, or a new one if it has died; the new one may not be ready yet."""
        child = self._children[slot]
        if child.is_alive():
            return child
        child.stop()
        with self._lock:
            if self._closed:
                raise CancelledError
            child = self._children[slot] = Child(self._configuration)
        return child


def _outcome(future: Future[Pixels]) -> Pixels | ImageError:
    try:
        return future.result()
    except ImageError as error:
        return error
