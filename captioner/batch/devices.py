"""Several devices of one machine as one model: each has a process with a model of its own, all take batches in turn.

The job stays what it is: one process decides what is read, asked and recorded, in the order of its batches. So what a
batch holds, and with it every byte of the outputs, does not depend on how many devices there are, which of them is the
quicker, or which one dies.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Pipe, wait
from pathlib import Path

from captioner.batch.batch_captioner import OpenCaptioner
from captioner.batch.device_process import Answer, Setup, Work
from captioner.batch.group_signals import withheld
from captioner.captions import Outcome
from captioner.decoding.options import DecodingOptions
from captioner.errors import CaptionerError
from captioner.images import ImageSource

_IN_HAND = 3  # batches that a process has at most: one is captioned while the next two are read
_AT_ONCE = 2 * _IN_HAND  # times the devices: batches that are begun at most, should the first one take long
_ENDING_SECONDS = 10.0  # from the end of its connection to the end of a process
_DYING_SECONDS = 1.0  # the same of one that is dead, or about to be
_BOOTSTRAP = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); "
    "from captioner.batch.device_process import main; main(int(sys.argv[2]))"
)


@dataclass(eq=False)
class _Task:
    """A batch and, once it is captioned, what became of it."""

    batch: Sequence[ImageSource]
    outcomes: list[Outcome] | None = None


class Devices:
    """In the place of a Captioner: captions batches on several devices.

    A process that dies loses nothing: the others do what it had in hand.

    Attributes:
        precision: in which all of them run.
    """

    def __init__(
        self,
        number: int,
        open_captioner: OpenCaptioner,
        *,
        bundle: Path,
        device: str,
        precision: str,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Open the model on `number` devices; the first one chooses the precision, should that be `auto`.

        Args:
            open_captioner: a function of a module; each process calls it.
            device: `cpu` (processes share the processor) or `cuda` (each has a GPU).
            tell: is given a line when a process dies.

        Raises:
            CaptionerError: a device is not there, or a model cannot be opened.
        """
        self._tell = tell
        self._living: list[_Process] = []
        try:
            self._start(0, number, open_captioner, bundle, device, precision)
            self.precision = self._living[0].precision()
            for index in range(1, number):
                self._start(index, number, open_captioner, bundle, device, self.precision)
            for process in self._living[1:]:
                process.precision()
        except BaseException:
            self.close()
            raise

    def _start(
        self, index: int, number: int, open_captioner: OpenCaptioner, bundle: Path, device: str, precision: str
    ) -> None:
        setup = Setup(
            environment=_environment(index, number, device),
            open_captioner=open_captioner,
            bundle=bundle,
            device=device,
            precision=precision,
            processes=_share_of_processors(number),
        )
        self._living.append(_Process(f"device {index + 1} of {number}", setup))

    def stream_batches(
        self, batches: Iterable[Sequence[ImageSource]], options: DecodingOptions | None = None
    ) -> Iterator[list[Outcome]]:
        """The outcomes of each batch, in order; a batch may be empty.

        Raises:
            CaptionerError: a model failed, or the last process died.
        """
        begun: deque[_Task] = deque()  # until their outcomes are handed out
        rest: Iterator[Sequence[ImageSource]] | None = iter(batches)
        while True:
            while rest is not None and len(begun) < _AT_ONCE * len(self._living) and self._has_room():
                batch = next(rest, None)
                if batch is None:
                    rest = None
                    break
                task = _Task(batch, None if batch else [])
                begun.append(task)
                if batch:
                    self._give(task, options)
            if not begun:
                return
            first = begun[0]
            while first.outcomes is None:
                self._receive(options)
            del begun[0]
            yield first.outcomes

    def _has_room(self) -> bool:
        return any(len(process.tasks) < _IN_HAND for process in self._living)

    def _give(self, task: _Task, options: DecodingOptions | None) -> None:
        """A batch to the process that has the fewest."""
        while True:
            process = min(self._living, key=lambda process: len(process.tasks))
            if process.give(task, options):
                return
            self._lose(process, options)

    def _receive(self, options: DecodingOptions | None) -> None:
        """Wait for answers, and take in those that are there."""
        ready = wait([process.connection for process in self._living])
        for process in [process for process in self._living if process.connection in ready]:
            # one that died may have been found, and left, while the work of another was handed on
            if process in self._living and not process.receive():
                self._lose(process, options)

    def _lose(self, process: _Process, options: DecodingOptions | None) -> None:
        """The others take what a dead process had in hand."""
        self._living.remove(process)
        cause = process.end(_DYING_SECONDS)
        if not self._living:
            raise CaptionerError(
                f"The model's process of {process.name} ended ({cause}) and none is left: what is done is recorded; "
                "free some memory, and run the same command again."
            )
        self._tell(f"The model's process of {process.name} ended ({cause}); the others take over.")
        for task in process.tasks:
            self._give(task, options)

    def close(self) -> None:
        """End all processes; what they have in hand is nobody's any more."""
        while self._living:
            process = self._living.pop()
            process.end(0.0 if process.tasks else _ENDING_SECONDS)


class _Process:
    """The process of one device, as its parent sees it."""

    def __init__(self, name: str, setup: Setup) -> None:
        self.name = name
        self.tasks: deque[_Task] = deque()  # in its hand, in the order in which it answers
        path = [str(Path(entry).absolute()) for entry in sys.path if entry]
        path.append(str(Path(__file__).resolve().parents[2]))
        # The same file name encoding as here, whatever the environment says.
        command = [sys.executable, "-X", f"utf8={sys.flags.utf8_mode}", "-c", _BOOTSTRAP, json.dumps(path)]
        self.connection, theirs = Pipe()
        try:
            with withheld():
                self._process = subprocess.Popen(
                    [*command, str(theirs.fileno())], stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(),)
                )
        except OSError as error:
            self.connection.close()
            raise CaptionerError(f"The process of {name} cannot be started ({error}): free some resources.") from error
        finally:
            theirs.close()
        with suppress(ConnectionError):  # `precision` tells of it
            self.connection.send(setup)

    def precision(self) -> str:
        """In which its model runs, once that is open.

        Raises:
            CaptionerError: it cannot be opened.
        """
        try:
            answer: str | CaptionerError = self.connection.recv()
        except (EOFError, ConnectionError):
            answer = CaptionerError(f"its process ended ({self.end(_DYING_SECONDS)})")
        if isinstance(answer, CaptionerError):
            raise type(answer)(f"{self.name} cannot be used: {answer}")
        return answer

    def give(self, task: _Task, options: DecodingOptions | None) -> bool:
        """Hand a batch over; False: it is dead, and does not have it."""
        try:
            self.connection.send(Work(batch=task.batch, options=options))
        except ConnectionError:
            return False
        self.tasks.append(task)
        return True

    def receive(self) -> bool:
        """Take an answer in; False: it is dead.

        Raises:
            CaptionerError: the model failed.
        """
        try:
            answer: Answer | CaptionerError = self.connection.recv()
        except (EOFError, ConnectionError):
            return False
        if isinstance(answer, CaptionerError):
            raise answer
        task = self.tasks.popleft()
        task.outcomes = [
            Outcome(source=source, caption=caption, error=error)
            for source, (caption, error) in zip(task.batch, answer, strict=True)
        ]
        return True

    def end(self, seconds: float) -> str:
        """End it, with so much time to end by itself; what ended it, in words."""
        self.connection.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        self._process.kill()
        code = self._process.wait()
        return signal.strsignal(-code) or str(-code) if code < 0 else f"exit code {code}"


def _environment(index: int, number: int, device: str) -> dict[str, str]:
    """What differs from one process to the other: its GPU among those that we may use, or its share of the threads."""
    if device == "cpu":
        threads = os.environ.get("OMP_NUM_THREADS") or str(_share_of_processors(number))
        return {"OMP_NUM_THREADS": threads}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return {"CUDA_VISIBLE_DEVICES": str(index)}
    names = [name for name in visible.split(",") if name]
    return {"CUDA_VISIBLE_DEVICES": names[index] if index < len(names) else ""}


def _share_of_processors(number: int) -> int:
    return max(1, (os.cpu_count() or 1) // number)
