"""Objects that stay are old at once, and the search for garbage goes on as before."""

from __future__ import annotations

import gc

import pytest

from captioner.datasets.lasting import made_to_last


def is_in(generation: int, wanted: object) -> bool:
    return any(each is wanted for each in gc.get_objects(generation))


def test_what_is_made_is_old_at_the_end() -> None:
    with made_to_last():
        assert not gc.isenabled()
        made: list[object] = [[]]
        assert is_in(0, made)
    assert is_in(2, made)
    assert gc.get_freeze_count() == 0  # garbage of any age is still found
    assert gc.isenabled()


def test_an_error_leaves_things_as_they_were() -> None:
    with pytest.raises(KeyError), made_to_last():
        raise KeyError
    assert gc.isenabled()
    gc.disable()
    try:
        with made_to_last():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
