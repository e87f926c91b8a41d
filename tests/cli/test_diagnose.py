"""`captioner diagnose gradients`: tables, pictures and a summary, on a bundle and data of one's own."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from captioner.bundle import load_bundle
from captioner.cli.main import run
from captioner.datasets.kinds import load_split
from captioner.model.decoder import Decoder
from captioner.prediction import Captioner
from captioner.text.tokenizer import tokenize
from captioner.text.vocabulary import Vocabulary
from captioner.training.gradient_flow import gradient_flow, recurrent_matrices
from captioner.training.gradient_study import fresh_decoder

FILES = {"gradients.csv", "matrices.csv", "last_word.png", "sentence.png", "matrices.png", "radius.png"}
SMALL = ["--cells", "rnn,lstm", "--layers", "1,2", "--radius", "0.5,1.5"]


def table(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def norms(rows: list[dict[str, str]], **wanted: object) -> list[float]:
    chosen = {"loss": "last word", "state": "hidden", **{name: str(value) for name, value in wanted.items()}}
    return [float(row["norm"]) for row in rows if all(row[name] == value for name, value in chosen.items())]


def test_it_shows_the_model_and_fresh_cells(
    data: Path, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new" / "folder"
    command = ["diagnose", "gradients", "--bundle", str(tiny_bundle), "--data", str(data), "--output", str(output)]
    assert run([*command, *SMALL]) == 0
    assert {file.name for file in output.iterdir()} == FILES
    bundle = load_bundle(tiny_bundle)
    name = f"{bundle.name}@{bundle.digest}"
    rows = table(output / "gradients.csv")
    models = {(row["model"], row["cell"], row["layers"], row["radius"]) for row in rows}
    fresh = [("fresh", cell, str(depth), "") for cell in ("rnn", "lstm") for depth in (1, 2)]
    scaled = [("fresh", "rnn", str(depth), radius) for depth in (1, 2) for radius in ("0.5", "1.5")]
    assert models == {(name, "lstm", "1", ""), *fresh, *scaled}

    records = load_split(data, "dev")
    with Captioner(bundle, precision="float32", processes=1) as captioner:
        features = captioner.encode(np.stack([captioner.read(record.image).result() for record in records]))
    words = [bundle.vocabulary.encode(tokenize(record.captions[0])) for record in records]  # of the same length
    tokens = torch.tensor([[[Vocabulary.start, *ids, Vocabulary.end]] for ids in words])
    for decoder, model in (
        (bundle.model.decoder, name),
        (fresh_decoder(bundle.model.decoder, cell="lstm", num_layers=2), "fresh"),
    ):
        layers = decoder.configuration.num_layers
        for point in gradient_flow(decoder, features, tokens):
            about = {"loss": point.loss, "state": point.state, "layer": point.layer, "step": point.step}
            assert norms(rows, model=model, cell="lstm", layers=layers, **about) == [pytest.approx(point.norm)]
        figures = [
            (row["gate"], float(row["spectral_radius"]), float(row["largest_singular_value"]))
            for row in table(output / "matrices.csv")
            if (row["model"], row["cell"], row["layers"]) == (model, "lstm", str(layers))
        ]
        expected = [(m.gate, m.spectral_radius, m.largest_singular_value) for m in recurrent_matrices(decoder)]
        assert figures == expected

    printed = capsys.readouterr().out
    assert f"{name}: lstm, 1 layer\n  layer 1 hidden" in printed
    assert "fresh: rnn, 2 layers, radius 1.5\n" in printed
    assert "means of 3 captions" in printed
    assert max(map(len, printed.splitlines())) <= 120


def test_the_curves_of_the_lecture(
    data: Path, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Over 30 steps a small radius lets the gradient vanish, and less so a larger one."""
    command = ["diagnose", "gradients", "--bundle", str(tiny_bundle), "--data", str(data), "--output", str(tmp_path)]
    assert run([*command, "--cells", "", "--layers", "1", "--radius", "0.5,1,2", "--steps", "30"]) == 0
    rows = table(tmp_path / "gradients.csv")
    ratios = []
    for radius in (0.5, 1.0, 2.0):
        curve = norms(rows, radius=radius)
        assert len(curve) == 31
        ratios.append(curve[-1] / curve[0])
    assert ratios[0] < 1e-6
    assert ratios == sorted(ratios)
    figures = [float(row["spectral_radius"]) for row in table(tmp_path / "matrices.csv") if row["radius"]]
    assert figures == pytest.approx([0.5, 1.0, 2.0], rel=1e-5)


def test_without_data_it_takes_shapes_and_several_bundles_stand_beside_each_other(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    command = ["diagnose", "gradients", "--bundle", str(tiny_bundle), "--bundle", str(tiny_bundle)]
    assert run([*command, "--cells", "", "--radius", "", "--output", str(tmp_path)]) == 0
    assert {file.name for file in tmp_path.iterdir()} == FILES - {"radius.png"}
    rows = table(tmp_path / "gradients.csv")
    assert {row["model"] for row in rows} == {f"tiny@{load_bundle(tiny_bundle).digest}"}
    assert rows[0]["captions"] == "32"


def test_untrained_cells_are_always_the_same_and_leave_the_random_generator_alone(tiny_bundle: Path) -> None:
    like = load_bundle(tiny_bundle).model.decoder
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, second = (fresh_decoder(like, cell="gru", num_layers=3) for _ in range(2))
    assert torch.equal(torch.rand(1), expected)
    assert isinstance(first, Decoder)
    assert first.configuration.num_layers == 3
    assert first.embedding.weight.shape == like.embedding.weight.shape
    for (name, value), other in zip(first.named_parameters(), second.parameters(), strict=True):
        assert torch.equal(value, other), name


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ([], "gradients"),
        (["weights"], "weights"),
        (["gradients", "--cells", "rnn,transformer"], "rnn,transformer"),
        (["gradients", "--layers", "0"], "'0' is no list of whole numbers"),
        (["gradients", "--layers", "1;2"], "1;2"),
        (["gradients", "--radius", "-1"], "-1"),
        (["gradients", "--radius", "inf"], "inf"),
        (["gradients", "--steps", "1"], "--steps"),
    ],
)
def test_wrong_usage(arguments: list[str], word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["diagnose", *arguments, *(["--output", str(tmp_path / "x")] if arguments else [])]) == 2
    assert word in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_what_cannot_be_used_is_told_in_a_line(
    data: Path, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(data, broken)
    (broken / "Images" / "two.png").write_bytes(b"no picture")
    output = tmp_path / "out"
    output.mkdir()
    (output / "gradients.csv").write_text("of yesterday")
    for arguments, sentence in (
        (["--bundle", str(tmp_path / "nowhere")], "nowhere"),
        (["--data", str(tmp_path / "nowhere")], "there is no data set"),
        (["--data", str(data), "--split", "test"], "has no split 'test'"),
        (["--data", str(broken)], "two.png of the data set cannot be used: "),
    ):
        bundle = [] if "--bundle" in arguments else ["--bundle", str(tiny_bundle)]
        assert run(["diagnose", "gradients", *bundle, *arguments, "--output", str(output)]) == 1
        captured = capsys.readouterr()
        assert captured.out == ""
        (line,) = captured.err.splitlines()
        assert sentence in line
    assert [file.name for file in output.iterdir()] == ["gradients.csv"]
    assert (output / "gradients.csv").read_text() == "of yesterday"
