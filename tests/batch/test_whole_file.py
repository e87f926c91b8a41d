"""An output file is whole or absent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from captioner.batch.whole_file import WholeBinaryFile, WholeTextFile, partial_path, write_whole
from captioner.errors import OutputError


def test_the_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with WholeTextFile(path) as file:
        file.write("one\n")
        assert not path.exists()
        file.write("two\r\n")
    assert path.read_bytes() == b"one\ntwo\r\n"
    assert list(tmp_path.iterdir()) == [path]


def test_bytes_stay_as_they_are(tmp_path: Path) -> None:
    data = bytes(range(256)) * 1000
    with WholeBinaryFile(tmp_path / "data") as file:
        assert file.write(data) == len(data)
        assert file.write(b"") == 0
    assert (tmp_path / "data").read_bytes() == data


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_what_was_there_stays_when_the_block_raises(error: type[BaseException], tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("before")

    def write_half() -> None:
        with WholeTextFile(path) as file:
            file.write("half")
            raise error

    with pytest.raises(error):
        write_half()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_kill_leaves_what_was_there_and_the_next_attempt_tidies_up(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("before")
    program = (
        "import os, signal\nfrom pathlib import Path\nfrom captioner.batch.whole_file import WholeTextFile\n"
        f"with WholeTextFile(Path({str(path)!r})) as file:\n"
        "    file.write('x' * 100000)\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == -signal.SIGKILL
    assert path.read_text() == "before"
    assert partial_path(path).exists()
    write_whole(path, b"after")
    assert path.read_text() == "after"
    assert list(tmp_path.iterdir()) == [path]


def test_two_do_not_write_one_file_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with WholeTextFile(path) as file:
        with pytest.raises(OutputError, match="is being written by somebody else"):
            WholeTextFile(path)
        file.write("first")
    write_whole(path, b"second")
    assert path.read_text() == "second"


def test_many_writers_of_one_file_leave_one_whole_content(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    refused: list[int] = []

    def write(number: int) -> None:
        for _ in range(30):
            try:
                write_whole(path, bytes([number]) * 5000)
            except OutputError:
                refused.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    content = path.read_bytes()
    assert len(content) == 5000
    assert len(set(content)) == 1
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_and_the_file_behind_it_is_replaced_with_its_permissions(tmp_path: Path) -> None:
    path, target = tmp_path / "link", tmp_path / "target"
    target.write_text("before")
    target.chmod(0o640)
    path.symlink_to(target)
    write_whole(path, b"after")
    assert path.is_symlink()
    assert target.read_text() == "after"
    assert target.stat().st_mode & 0o777 == 0o640


def test_a_new_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    write_whole(tmp_path / "one", b"")
    (tmp_path / "two").write_bytes(b"")
    assert (tmp_path / "one").stat().st_mode == (tmp_path / "two").stat().st_mode


def test_a_full_disk_is_one_sentence() -> None:
    message = r"^/dev/full could not be written: No space left on device\.$"
    with pytest.raises(OutputError, match=message), WholeTextFile(Path("/dev/full")) as file:
        file.write("one\n")


def test_devices_and_pipes_are_written_directly(tmp_path: Path) -> None:
    write_whole(Path("/dev/null"), b"one")
    assert Path("/dev/null").is_char_device()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    write_whole(pipe, b"x" * 300_000)
    reader.join()
    assert got == [b"x" * 300_000]
    assert pipe.is_fifo()


def test_a_missing_folder_is_noticed_at_once(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No such file or directory"):
        WholeBinaryFile(tmp_path / "missing" / "file")


@pytest.mark.parametrize("name", ["x" * 255, "é" * 127, "-rf", "a\nb", os.fsdecode(b"\xff\xfe")])
def test_any_name_that_the_file_system_takes_can_be_written(name: str, tmp_path: Path) -> None:
    write_whole(tmp_path / name, b"data")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_undecodable_bytes_of_a_name_become_the_escape_of_json(tmp_path: Path) -> None:
    with WholeTextFile(tmp_path / "a") as file:
        file.write(os.fsdecode(b"\xff") + "é")
    assert (tmp_path / "a").read_text(encoding="utf-8") == "\\udcffé"


@pytest.mark.parametrize("redirection", [">", ">>"])
def test_what_standard_output_leads_to_is_not_emptied(redirection: str, tmp_path: Path) -> None:
    program = (
        "from pathlib import Path; from captioner.batch.whole_file import write_whole; "
        "write_whole(Path('/dev/stdout'), b'after\\n')"
    )
    command = f'(echo between; "{sys.executable}" -c "{program}") {redirection} out'
    (tmp_path / "out").write_text("before\n")
    subprocess.run(command, shell=True, check=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(Path.cwd())})
    expected = "between\nafter\n"
    assert (tmp_path / "out").read_text() == (expected if redirection == ">" else "before\n" + expected)
