"""What the pages that open from disk have in common."""

from __future__ import annotations

import re

import pytest

from captioner.pictures.page import FAMILY, FOLDER, read, style_and_script

SHEETS = (FOLDER / "report.css", FOLDER / "contact_sheet.css", FOLDER.parents[1] / "service/static/page.css")


@pytest.mark.parametrize("name", ["report", "contact_sheet"])
def test_the_own_style_comes_after_the_family_style(name: str) -> None:
    values = style_and_script(name)
    assert values["style"].startswith(read(FAMILY))
    assert values["style"].endswith(read(f"{name}.css"))
    assert values["script"] == read(f"{name}.js")
    assert values["style_hash"] != values["script_hash"]


def test_no_sheet_repeats_a_variable_of_the_family_and_every_variable_is_set() -> None:
    family = set(re.findall(r"^ *(--[a-z-]+):", read(FAMILY), re.MULTILINE))
    for sheet in SHEETS:
        text = sheet.read_text(encoding="utf-8")
        own = set(re.findall(r"^ *(--[a-z-]+):", text, re.MULTILINE))
        assert not own & family, sheet
        assert set(re.findall(r"var\((--[a-z-]+)", text + read(FAMILY))) <= own | family, sheet
