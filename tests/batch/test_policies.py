"""What becomes of a text that is there already."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner.batch.policies import Existing, resolve
from captioner.errors import OutputError

ADDING = (Existing.APPEND, Existing.PREPEND)
texts = st.text(alphabet="ab \n\r\u2028é", max_size=12)


@pytest.mark.parametrize("existing", [None, "", " \n"])
@pytest.mark.parametrize("policy", Existing)
def test_where_nothing_is_said_every_policy_writes(existing: str | None, policy: Existing) -> None:
    assert resolve(existing, "a dog\n", policy, where="a.txt") == "a dog\n"


@pytest.mark.parametrize(
    ("policy", "result"),
    [
        (Existing.SKIP, None),
        (Existing.OVERWRITE, "a dog\n"),
        (Existing.APPEND, "Rex!\na dog\n"),
        (Existing.PREPEND, "a dog\nRex!"),
    ],
)
def test_each_policy(policy: Existing, result: str | None) -> None:
    assert resolve("Rex!", "a dog\n", policy, where="a.txt") == result


def test_an_error_names_the_place_and_the_choices() -> None:
    with pytest.raises(OutputError, match=r"^b/a\.txt has a text already: choose --existing skip"):
        resolve("Rex!", "a dog\n", Existing.ERROR, where="b/a.txt")


@pytest.mark.parametrize("policy", Existing)
def test_the_same_text_is_no_other_text(policy: Existing) -> None:
    assert resolve("a dog\n", "a dog\n", policy, where="a.txt") is None


def test_added_lines_end_as_the_others_do() -> None:
    assert resolve("one\r\ntwo\r\n", "a dog\n", Existing.APPEND, where="") == "one\r\ntwo\r\na dog\r\n"


@pytest.mark.parametrize("policy", ADDING)
def test_what_stands_there_is_not_added_again_even_after_an_edit(policy: Existing) -> None:
    assert resolve("Rex!\r\na dog \r\n[by toy]\r\nmore\r\n", "a dog\n[by toy]\n", policy, where="") is None
    assert resolve("a dog\nRex\n[by toy]\n", "a dog\n[by toy]\n", policy, where="") is not None


@given(existing=st.none() | texts, new=texts.filter(lambda text: bool(text.strip())))
@pytest.mark.parametrize("policy", [policy for policy in Existing if policy is not Existing.ERROR])
def test_twice_is_once_and_adding_loses_nothing(policy: Existing, existing: str | None, new: str) -> None:
    new += "\n"
    once = resolve(existing, new, policy, where="")
    if once is not None:
        assert resolve(once, new, policy, where="") is None
        if policy in ADDING and existing is not None and existing.strip():
            assert existing in once
