"""The folder of a run keeps what a resumed run goes on from, and nothing of another run that could be taken for it."""

from __future__ import annotations

from pathlib import Path

from captioner.training.run_folder import earlier_logs, set_aside


def test_a_log_is_set_aside_only_by_a_run_that_resumes(tmp_path: Path) -> None:
    log = tmp_path / "metrics.csv"
    for number in range(3):
        log.write_text(f"run {number}")
        set_aside(tmp_path, resumes=True)
        assert not log.exists()
    set_aside(tmp_path, resumes=True)
    assert [file.read_text() for file in earlier_logs(tmp_path)] == ["run 0", "run 1", "run 2"]
    log.write_text("run 3")
    set_aside(tmp_path, resumes=False)
    assert earlier_logs(tmp_path) == []
    assert log.is_file()  # Lightning deletes it when it writes the first line of the new one


def test_a_new_run_puts_the_last_state_of_another_out_of_the_way(tmp_path: Path) -> None:
    last, event = tmp_path / "checkpoints" / "last.ckpt", tmp_path / "tensorboard" / "events.out.tfevents.1.host.2.0"
    for file in (last, event):
        file.parent.mkdir()
        file.write_text("of a run before")
    set_aside(tmp_path, resumes=True)
    assert last.is_file()
    assert event.is_file()
    set_aside(tmp_path, resumes=False)
    assert not last.exists()  # so that --resume cannot go on with it
    assert last.with_name("previous.ckpt").read_text() == "of a run before"
    assert not event.exists()
