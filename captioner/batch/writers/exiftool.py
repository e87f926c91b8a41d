"""ExifTool by Phil Harvey, a program of its own that reads and writes the metadata of pictures."""

from __future__ import annotations

import os
import re
import secrets
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

from captioner.batch.group_signals import withheld
from captioner.errors import ConfigurationError, OutputError

_TIMEOUT_SECONDS = 120.0  # for one command: a picture on a slow disk takes seconds

# Left alone, ExifTool waits for commands for ever, also when whoever gave them was killed: the shell then ends it. And
# when ExifTool dies, the shell ends all of its own session, so that the answer's end is seen at once.
# SIGTERM to a whole group of processes, as systemd and Slurm send it, is for us: the command in flight ends well.
# -config with no file: what it does must not depend on a configuration in somebody's home.
_STAYING = (
    'trap "" TERM; { cat; printf "%s\\n" -stay_open False; } | { "$0" -config "" -stay_open True -@ -; kill -9 0; }'
)


class ExifTool:
    """One running ExifTool, which answers command after command: starting it takes longer than its work does.

    A command that takes too long, or at which it dies, is refused; the next one starts it anew. An object belongs to
    one thread.
    """

    def __init__(self, program: str = "exiftool", *, timeout_seconds: float = _TIMEOUT_SECONDS) -> None:
        """Find the program; it is started when it is first asked.

        Raises:
            ConfigurationError: it is not installed.
        """
        found = shutil.which(program)
        if found is None:
            raise ConfigurationError(
                "Writing into pictures needs exiftool, which is not installed: install it (apt-get install "
                "libimage-exiftool-perl, or brew install exiftool), or choose another output."
            )
        self._program = found
        self._timeout_seconds = timeout_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `close`

    def run(self, arguments: Sequence[bytes]) -> bytes:
        """What it prints when it is given these arguments, of which paths are absolute.

        Raises:
            OutputError: it reports an error, in its own words; or it died or took too long.
        """
        if any(b"\n" in argument or b"\r" in argument for argument in arguments):
            answer, complaints = self._run_alone(arguments)  # in a running one, every line is an argument
        else:
            answer, complaints = self._ask(arguments)
        for line in complaints.decode("utf-8", "replace").splitlines():
            if line.startswith("Error"):
                raise OutputError(f"exiftool refused: {line.removeprefix('Error:').strip()}.")
        return answer

    def close(self) -> None:
        """End it."""
        self._stop()
        self._complaints.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _run_alone(self, arguments: Sequence[bytes]) -> tuple[bytes, bytes]:
        command: list[str | bytes] = [self._program, "-config", "", *arguments]
        try:
            with withheld():
                process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            with process:
                try:
                    return process.communicate(timeout=self._timeout_seconds)
                except BaseException:
                    process.kill()
                    raise
        except (OSError, subprocess.SubprocessError) as error:
            raise OutputError(f"exiftool failed ({error}): try again, or leave this picture out.") from error

    def _ask(self, arguments: Sequence[bytes]) -> tuple[bytes, bytes]:
        process = self._started()
        assert process.stdin is not None
        # A picture that comes back as an answer must not hold the end of the answer: nobody can guess this number.
        number = secrets.randbits(63)
        try:
            process.stdin.write(b"\n".join([*map(_as_line, arguments), b"-execute%d" % number, b""]))
            process.stdin.flush()
            answer = self._answer(process, b"{ready%d}\n" % number)
        except OSError as error:
            self._stop()
            raise OutputError(f"exiftool stopped ({error}): try again, or leave this picture out.") from error
        except BaseException:
            self._stop()  # what it still prints must not be taken for the next answer
            raise
        # It writes complaints at once and the end of its answer last, so all of them are there.
        self._complaints.seek(0)
        complaints = self._complaints.read()
        self._complaints.seek(0)
        self._complaints.truncate()
        return answer, complaints

    def _answer(self, process: subprocess.Popen[bytes], end: bytes) -> bytes:
        assert process.stdout is not None
        answer = bytearray()
        deadline = time.monotonic() + self._timeout_seconds
        while not answer.endswith(end):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([process.stdout], [], [], left)[0]:
                raise TimeoutError(f"no answer within {self._timeout_seconds:g} seconds")
            part = os.read(process.stdout.fileno(), 65536)
            if not part:
                raise BrokenPipeError("it ended by itself")
            answer += part
        return bytes(answer[: -len(end)])

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._complaints.seek(0)
            self._complaints.truncate()
            try:
                with withheld():
                    self._process = subprocess.Popen(
                        ["sh", "-c", _STAYING, self._program],
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=self._complaints,
                        start_new_session=True,  # Ctrl-C is for us: the command in flight ends well
                    )
            except OSError as error:
                raise OutputError(f"exiftool could not be started ({error}): check its installation.") from error
        return self._process

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # it only reads: what it makes of a picture comes to us
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(OSError):  # what was not sent yet goes nowhere
                    pipe.close()


def _as_line(argument: bytes) -> bytes:
    """The argument as a line that means it: one space after an equals sign is taken away there."""
    return re.sub(rb"^(-[-:\w]+#?\s*[-+<]?=)(?= )", rb"\1 ", argument)
