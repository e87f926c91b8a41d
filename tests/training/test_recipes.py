"""The recipes in data/ are configurations that `captioner train` accepts; no data is needed to know."""

from __future__ import annotations

from pathlib import Path

import pytest

from captioner.training.command import main

PROJECT = Path(__file__).parents[2]
RECIPES = sorted((PROJECT / "data").glob("*/*.yaml"))


def test_there_are_recipes() -> None:
    assert {recipe.name for recipe in RECIPES} >= {"train.yaml", "finetune.yaml"}


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_a_recipe_is_parsed(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--config", str(recipe), "--print_config"])
    assert ended.value.code == 0, capsys.readouterr().err
    assert "train_encoder_from:" in capsys.readouterr().out
