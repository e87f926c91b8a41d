"""New pictures in folders, as they appear and are complete."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path, PurePath

from captioner.batch.folders import items_below
from captioner.batch.items import Item
from captioner.batch.selection import Selection
from captioner.batch.sources import AnyPath, SourceError
from captioner.batch.survey import SourceFailure, Survey
from captioner.errors import ConfigurationError

# How browsers, download managers and copying programs call a file until it is complete.
TEMPORARY_ENDINGS = (".part", ".partial", ".crdownload", ".download", ".filepart", ".tmp", ".temp", "~")


def watch(
    folders: Iterable[AnyPath],
    selection: Selection | None = None,
    survey: Survey | None = None,
    *,
    interval_seconds: float = 1.0,
    settle_seconds: float = 5.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[list[Item]]:
    """The pictures below `folders`: those that are there already, then new ones, as soon as they are complete.

    Folders are listed again and again, which works on every file system, also on one that another machine writes to. A
    file is complete when two listings in a row and `settle_seconds` have not seen its size or its time change; clocks
    of different machines are never compared. A file that is changed or replaced later comes again, and so does one that
    was away. Hidden files are never taken, whatever `selection` says, nor those with a temporary name.

    Each value is what one listing found complete: sorted by source, never empty. The iterator ends when Ctrl-C comes
    while it waits or lists, and never else; what it has not handed out by then is found again by the next one.

    Args:
        folders: to be watched with everything below them. One that vanishes is a failure until it is back.
        selection: what is taken; None: pictures by their extension. Archives are not opened.
        survey: has the counts of the last listing, and every failure once while it lasts.
        interval_seconds: the pause between two listings; at least as long as the last one took.
        settle_seconds: more than the 3 seconds for which a client of NFS may show an old size (nfs(5), acregmin).
        clock: seconds that never run backwards.
        sleep: waits for some seconds.

    Raises:
        ConfigurationError: at once: a number of seconds is negative, or the interval 0.
        SourceError: at once: one of `folders` is no folder.
    """
    if interval_seconds <= 0 or settle_seconds < 0:
        raise ConfigurationError("interval_seconds must be positive, and settle_seconds not negative.")
    names = sorted({str(PurePath(folder)) for folder in folders})
    for name in names:
        if not Path(name).is_dir():
            raise SourceError(f"There is no folder {name!r} to watch: check the path.")
    chosen = replace(Selection() if selection is None else selection, hidden=False)
    watcher = _Watcher(names, chosen, Survey() if survey is None else survey, settle_seconds)
    return _rounds(watcher, interval_seconds, clock, sleep)


def _rounds(
    watcher: _Watcher, interval_seconds: float, clock: Callable[[], float], sleep: Callable[[float], None]
) -> Iterator[list[Item]]:
    while True:
        try:
            begin = clock()
            complete = watcher.look(begin)
            pause = max(interval_seconds, clock() - begin)
        except KeyboardInterrupt:
            return
        if complete:
            yield complete
        try:
            sleep(pause)
        except KeyboardInterrupt:
            return


@dataclass(slots=True)
class _Seen:
    """What is known of a file: its fingerprint, since when and in how many listings it has had it."""

    size: int
    mtime_ns: int
    since: float
    listings: int
    last_listing: int
    handed_out: bool


class _Watcher:
    def __init__(self, folders: list[str], selection: Selection, survey: Survey, settle_seconds: float) -> None:
        self._folders = folders
        self._selection = selection
        self._survey = survey
        self._settle_seconds = settle_seconds
        self._files: dict[str, _Seen] = {}  # by source
        self._failures: set[SourceFailure] = set()  # of the last listing
        self._listing = 0

    def look(self, now: float) -> list[Item]:
        """Lists the folders once; the files that are complete by now and were not handed out as they are."""
        self._listing += 1
        survey = Survey()
        complete: list[Item] = []
        for folder in self._folders:
            for item in items_below(folder, self._selection, survey):
                if item.member is None and not item.source.lower().endswith(TEMPORARY_ENDINGS):
                    self._note(item, now, complete)
        self._forget(survey.failures)
        self._report(survey)
        return sorted(complete, key=lambda item: item.source)

    def _note(self, item: Item, now: float, complete: list[Item]) -> None:
        seen = self._files.get(item.source)
        if seen is None or (seen.size, seen.mtime_ns) != (item.size, item.mtime_ns):
            self._files[item.source] = _Seen(item.size, item.mtime_ns, now, 1, self._listing, handed_out=False)
            return
        if seen.last_listing == self._listing:  # found below two of the folders
            return
        seen.listings += 1
        seen.last_listing = self._listing
        if not seen.handed_out and now - seen.since >= self._settle_seconds:
            seen.handed_out = True
            complete.append(item)

    def _forget(self, failures: list[SourceFailure]) -> None:
        """Forgets the files that are gone, but none that may lie in a folder that could not be listed this time."""
        if any(failure.source == "." for failure in failures):
            return
        unlisted = tuple(failure.source.rstrip("/") + "/" for failure in failures)
        gone = [
            source
            for source, seen in self._files.items()
            if seen.last_listing != self._listing and not source.startswith(unlisted)
        ]
        for source in gone:
            del self._files[source]

    def _report(self, survey: Survey) -> None:
        for count in fields(Survey):
            if count.name != "failures":
                setattr(self._survey, count.name, getattr(survey, count.name))
        self._survey.failures += [failure for failure in survey.failures if failure not in self._failures]
        self._failures = set(survey.failures)
