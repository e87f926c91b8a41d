"""Texts beside pictures: planned, applied, taken back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from captioner.batch.policies import Existing
from captioner.batch.style import TextStyle
from captioner.batch.writers.sidecar_names import SidecarNames
from captioner.batch.writers.sidecars import SidecarWriter, apply_sidecar, revert_sidecar
from captioner.errors import OutputError
from captioner.ledger import Change
from tests.batch.writers.samples import item, row


class Place:
    """One picture and its sidecar."""

    def __init__(self, folder: Path) -> None:
        self.item = item("a.jpg", path=folder / "a.jpg")
        self.sidecar = folder / "a.txt"

    def plan(self, policy: Existing = Existing.SKIP, caption: str = "a dog") -> Change | None:
        writer = SidecarWriter(names=SidecarNames.of([self.item]), style=TextStyle(), policy=policy)
        return writer.plan(self.item, row("a.jpg", caption))

    def planned(self, policy: Existing = Existing.SKIP, caption: str = "a dog") -> Change:
        change = self.plan(policy, caption)
        assert change is not None
        return change


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """An empty folder's picture."""
    return Place(tmp_path)


def test_a_new_text_is_written_and_taken_back(place: Place) -> None:
    change = place.planned()
    assert change == Change(target=os.fsencode(place.sidecar), before=None, after=b"a dog\n")
    assert not place.sidecar.exists()
    apply_sidecar(change)
    apply_sidecar(change)  # as after a kill between writing and noting it
    assert place.sidecar.read_bytes() == b"a dog\n"
    assert revert_sidecar(change)
    assert revert_sidecar(change)
    assert list(place.sidecar.parent.iterdir()) == []


@pytest.mark.parametrize("before", [b"Rex!", b"Rex!\r\n", b"\xef\xbb\xbfRex!", b"", b" \n"])
@pytest.mark.parametrize("policy", [Existing.OVERWRITE, Existing.APPEND, Existing.PREPEND])
def test_what_was_there_comes_back_byte_for_byte(before: bytes, policy: Existing, place: Place) -> None:
    place.sidecar.write_bytes(before)
    change = place.planned(policy)
    apply_sidecar(change)
    assert b"a dog" in place.sidecar.read_bytes()
    assert place.plan(policy) is None, "a resumed run has nothing left to do"
    assert revert_sidecar(change)
    assert place.sidecar.read_bytes() == before


@pytest.mark.parametrize("policy", Existing)
def test_what_a_job_wrote_is_not_in_its_own_way(policy: Existing, place: Place) -> None:
    apply_sidecar(place.planned(policy))
    assert place.plan(policy) is None


def test_by_default_a_text_stays(place: Place) -> None:
    place.sidecar.write_text("Rex!")
    assert place.plan() is None


def test_the_policy_error_names_the_file(place: Place) -> None:
    place.sidecar.write_text("Rex!")
    with pytest.raises(OutputError, match=r"a\.txt has a text already"):
        place.plan(Existing.ERROR)


def test_a_byte_order_mark_stays_at_the_beginning(place: Place) -> None:
    place.sidecar.write_bytes(b"\xef\xbb\xbfRex!")
    assert place.planned(Existing.PREPEND).after == b"\xef\xbb\xbfa dog\nRex!"


def test_other_encodings_are_kept_or_replaced_but_not_mixed(place: Place) -> None:
    place.sidecar.write_bytes(b"caf\xe9")
    assert place.plan(Existing.SKIP) is None
    assert place.planned(Existing.OVERWRITE).before == b"caf\xe9"
    with pytest.raises(OutputError, match="is not UTF-8, so nothing can be added"):
        place.plan(Existing.APPEND)


def test_a_text_that_somebody_edited_is_not_taken_back(place: Place) -> None:
    change = place.planned()
    apply_sidecar(change)
    place.sidecar.write_text("a dog, Rex\n")
    assert not revert_sidecar(change)
    assert place.sidecar.read_text() == "a dog, Rex\n"


def test_a_text_that_somebody_removed_is_not_made_anew(place: Place) -> None:
    place.sidecar.write_text("Rex!")
    change = place.planned(Existing.OVERWRITE)
    apply_sidecar(change)
    place.sidecar.unlink()
    assert not revert_sidecar(change)
    assert not place.sidecar.exists()


def test_a_text_that_appears_in_between_is_not_overwritten(place: Place) -> None:
    change = place.planned()
    place.sidecar.write_text("Rex!")
    with pytest.raises(OutputError, match="was changed by somebody else while its caption was made"):
        apply_sidecar(change)
    assert place.sidecar.read_text() == "Rex!"


def test_a_mirrored_tree_is_made_as_it_is_needed(tmp_path: Path) -> None:
    one = item("photos/a/b.jpg", root="photos")
    names = SidecarNames.of([one], mirror=tmp_path / "out")
    change = SidecarWriter(names=names, style=TextStyle()).plan(one, row("b.jpg"))
    assert change is not None
    assert not (tmp_path / "out").exists()
    apply_sidecar(change)
    assert (tmp_path / "out" / "a" / "b.txt").read_text() == "a dog runs\n"


def test_what_cannot_be_written_is_one_sentence(place: Place) -> None:
    change = place.planned()
    place.sidecar.mkdir()
    with pytest.raises(OutputError, match=r"a\.txt could not be read: Is a directory\.$"):
        apply_sidecar(change)
