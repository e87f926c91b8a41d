"""A bundle holds all that a caption depends on, and a changed byte is an error."""

from __future__ import annotations

import hashlib
import json
import pickle
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from captioner.bundle import Bundle, default_bundle, load_bundle, save_bundle
from captioner.decoding.options import DecodingOptions
from captioner.errors import BundleError
from captioner.manifest import FORMAT_VERSION, digest_of, read_manifest
from captioner.model.caption_model import CaptionModel
from captioner.model.configuration import DecoderConfiguration, EncoderConfiguration
from captioner.model.folding import fold_batch_norms
from captioner.text import tokenizer

FILES = ["LICENSE", "README.md", "model.json", "vocabulary.json", "weights.safetensors"]
TEXTS = {"card": "# card\n", "licence_text": "licence\n"}


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    return load_bundle(tiny_bundle)


@pytest.fixture
def copy(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A bundle that a test may damage."""
    return shutil.copytree(tiny_bundle, tmp_path / "copy")


def edit(directory: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest, with the right sums: what a newer or a careless program might have written."""
    file = directory / "model.json"
    manifest = json.loads(file.read_text())
    for name in manifest["files"]:
        manifest["files"][name] = hashlib.sha256((directory / name).read_bytes()).hexdigest()
    change(manifest)
    file.write_text(json.dumps(manifest))


# --- what comes back


def test_a_round_trip(bundle: Bundle, tmp_path: Path) -> None:
    written = replace(
        bundle,
        name="zwölf",
        decoding=DecodingOptions(beam_size=5, max_length=17, length_penalty=0.5),
        training={"phases": [{"data": "shapes", "epochs": 3}]},
        scores={"CIDEr-D": 12.5},
        licence="MIT",
    )
    digest = save_bundle(written, tmp_path / "new" / "bundle", **TEXTS)
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == ["bundle"]
    assert sorted(file.name for file in (tmp_path / "new" / "bundle").iterdir()) == FILES
    assert (tmp_path / "new" / "bundle" / "README.md").read_text() == "# card\n"
    assert (tmp_path / "new" / "bundle").stat().st_mode & 0o755 == 0o755
    read = load_bundle(tmp_path / "new" / "bundle")
    assert digest == digest_of(tmp_path / "new" / "bundle")
    for name in ("name", "vocabulary", "preprocessing", "decoding", "training", "scores", "licence"):
        assert getattr(read, name) == getattr(written, name)
    for name, value in written.model.decoder.state_dict().items():
        assert torch.equal(read.model.decoder.state_dict()[name], value.half().to(value.dtype)), name
    assert not read.model.training
    assert not any(parameter.requires_grad for parameter in read.model.parameters())
    assert next(read.model.parameters()).dtype == torch.float32


def test_saving_twice_gives_the_same_bytes(bundle: Bundle, tmp_path: Path) -> None:
    assert save_bundle(bundle, tmp_path / "a", **TEXTS) == save_bundle(bundle, tmp_path / "b", **TEXTS)
    for name in FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize(("name", "cut"), [("shufflenet_v2_x0_5", "stage2"), ("efficientnet_b0", "features.2")])
def test_float16_computes_with_the_stored_weights_themselves(
    bundle: Bundle, tmp_path: Path, name: str, cut: str
) -> None:
    model = CaptionModel(
        EncoderConfiguration(name=name, cut=cut),
        DecoderConfiguration(embedding_size=4, hidden_size=4, attention_size=4),
        vocabulary_size=len(bundle.vocabulary),
    ).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 2.0)
            torch.nn.init.uniform_(module.bias, -0.5, 0.5)
            torch.nn.init.uniform_(module.get_buffer("running_mean"), -0.5, 0.5)
            torch.nn.init.uniform_(module.get_buffer("running_var"), 0.5, 2.0)
    save_bundle(replace(bundle, model=model), tmp_path / "a", **TEXTS)
    read = load_bundle(tmp_path / "a")
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected, found = model.encoder(images), read.model.encoder(images)
    assert float((found - expected).norm() / expected.norm()) < 2e-3
    for key, value in fold_batch_norms(load_bundle(tmp_path / "a").model.encoder.network).state_dict().items():
        assert torch.equal(value, value.half().float()), key
    save_bundle(read, tmp_path / "b", **TEXTS)
    first, second = ((tmp_path / name / "weights.safetensors").read_bytes() for name in ("a", "b"))
    assert first == second


def test_batch_statistics_and_large_numbers_survive(bundle: Bundle, tmp_path: Path) -> None:
    model = CaptionModel(
        EncoderConfiguration(name="shufflenet_v2_x0_5", cut="stage2"),
        DecoderConfiguration(cell="gru", num_layers=2, attention=False, embedding_size=4, hidden_size=4),
        vocabulary_size=len(bundle.vocabulary),
    )
    model.encoder.network.get_buffer("conv1.1.running_var").fill_(0.25)
    torch.nn.init.constant_(model.decoder.bias, 123456.0)  # float16 ends at 65504
    save_bundle(replace(bundle, model=model), tmp_path / "b", **TEXTS)
    read = load_bundle(tmp_path / "b").model
    assert float(read.decoder.bias[0]) == 123456.0
    assert read.decoder.configuration == model.decoder.configuration
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(read.encoder(images), model.eval().encoder(images), atol=1e-2, rtol=1e-2)


def test_the_manifest_says_all_that_the_design_promises(tiny_bundle: Path) -> None:
    manifest = read_manifest(tiny_bundle)
    assert manifest["format_version"] == FORMAT_VERSION
    assert set(manifest["model"]) == {"encoder", "decoder"}
    assert set(manifest["preprocessing"]) == {"geometry", "mean", "std"}
    assert manifest["tokenizer"] == {"name": tokenizer.NAME, "version": tokenizer.VERSION}
    assert sorted(manifest["files"]) == [name for name in FILES if name != "model.json"]
    assert {"decoding", "training", "scores", "licence", "name"} <= set(manifest)


def test_nothing_in_a_bundle_is_a_pickle(tiny_bundle: Path) -> None:
    assert sorted(file.name for file in tiny_bundle.iterdir()) == FILES
    for file in tiny_bundle.iterdir():
        content = file.read_bytes()
        assert not content.startswith((b"\x80", b"PK"))
    assert load_file(tiny_bundle / "weights.safetensors")


def test_the_shipped_model_lies_in_the_package() -> None:
    assert default_bundle().parts[-3:] == ("captioner", "bundles", "default")


# --- what is refused


@pytest.mark.parametrize("name", [name for name in FILES if name != "model.json"])
@pytest.mark.parametrize("damage", ["a byte more", "a byte less", "a byte changed", "missing", "a directory"])
def test_every_damage_is_an_error_that_names_the_file(copy: Path, name: str, damage: str) -> None:
    file = copy / name
    content = file.read_bytes()
    file.unlink()
    if damage == "a byte more":
        file.write_bytes(content + b" ")
    elif damage == "a byte less":
        file.write_bytes(content[:-1])
    elif damage == "a byte changed":
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "a directory":
        file.mkdir()
    for read in (load_bundle, read_manifest):
        with pytest.raises(BundleError, match=name):
            read(copy)


@pytest.mark.parametrize("content", [b"", b"hello", b"\xff\xfe", b"[]", b"3", b"{}", b'{"format_version": 1}'])
def test_a_manifest_that_is_none(copy: Path, content: bytes) -> None:
    (copy / "model.json").write_bytes(content)
    with pytest.raises(BundleError, match=r"model\.json is no manifest"):
        load_bundle(copy)


def test_a_changed_manifest_changes_the_name_of_the_model(copy: Path) -> None:
    before = digest_of(copy)
    edit(copy, lambda manifest: manifest["scores"].update(bleu=1))
    assert digest_of(copy) != before


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_format_version(copy: Path, version: object) -> None:
    edit(copy, lambda manifest: manifest.update(format_version=version))
    with pytest.raises(BundleError, match=f"format version {version}, this program reads {FORMAT_VERSION}"):
        load_bundle(copy)


def test_a_directory_that_is_no_bundle(tmp_path: Path) -> None:
    for path, said in (
        (tmp_path, r"no model bundle: it has no model\.json"),
        (tmp_path / "gone", "there is no folder"),
    ):
        with pytest.raises(BundleError, match=said):
            load_bundle(path)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda m: m["model"]["encoder"].update(name="resnet9"), "resnet9"),
        (lambda m: m["model"]["encoder"].update(colour="red"), "colour"),
        (lambda m: m["model"]["decoder"].update(hidden_size=25), "hidden_size|size mismatch"),
        (lambda m: m["model"]["decoder"].update(attention=False), "size mismatch for decoder"),
        (lambda m: m["model"]["decoder"].update(num_layers=2), "missing or unexpected|size mismatch"),
        (lambda m: m["decoding"].update(beam_size=0), "beam_size"),
        (lambda m: m["decoding"].update(speed=2), "speed"),
        (lambda m: m["preprocessing"].pop("mean"), "mean"),
        (lambda m: m["preprocessing"]["geometry"].update(size=0), "size"),
        (lambda m: m.pop("licence"), "licence"),
        (lambda m: m.update(model=[]), "usable"),
        (lambda m: m.update(decoding=None), "usable"),
    ],
)
def test_a_manifest_that_contradicts_itself(copy: Path, change: Callable[[dict[str, Any]], object], word: str) -> None:
    edit(copy, change)
    with pytest.raises(BundleError, match=word) as caught:
        load_bundle(copy)
    assert str(copy) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"not a tensor file", pickle.dumps({"a": 1}), b""])
def test_weights_that_are_no_safetensors(copy: Path, content: bytes) -> None:
    (copy / "weights.safetensors").write_bytes(content)
    edit(copy, lambda manifest: None)
    with pytest.raises(BundleError, match="no usable bundle"):
        load_bundle(copy)


@pytest.mark.parametrize("content", ['["dog", "dog"]', "null", "[", '["<pad>"]'])
def test_a_vocabulary_that_is_none(copy: Path, content: str) -> None:
    (copy / "vocabulary.json").write_text(content)
    edit(copy, lambda manifest: None)
    with pytest.raises(BundleError, match="no usable bundle"):
        load_bundle(copy)


def test_weights_that_do_not_fit_are_named(copy: Path) -> None:
    state = load_file(copy / "weights.safetensors")
    del state["decoder.bias"]
    save_file(state, copy / "weights.safetensors")
    edit(copy, lambda manifest: None)
    with pytest.raises(BundleError, match=r"weights\.safetensors does not fit model\.json: 'decoder\.bias'"):
        load_bundle(copy)
    state["decoder.bias"] = torch.zeros(5)
    save_file(state, copy / "weights.safetensors")
    edit(copy, lambda manifest: None)
    with pytest.raises(BundleError, match=r"size mismatch for decoder\.bias"):
        load_bundle(copy)


def test_a_name_in_the_manifest_cannot_lead_out_of_the_bundle(copy: Path) -> None:
    (copy.parent / "secret").write_text("x")
    edit(copy, lambda manifest: manifest["files"].update({"../secret": hashlib.sha256(b"x").hexdigest()}))
    with pytest.raises(BundleError, match="secret"):
        read_manifest(copy)


# --- writing


def test_a_bundle_is_replaced_by_the_next(bundle: Bundle, copy: Path) -> None:
    (copy / "notes.txt").write_text("of the old one")
    save_bundle(replace(bundle, name="second"), copy, **TEXTS)
    assert load_bundle(copy).name == "second"
    assert sorted(file.name for file in copy.iterdir()) == FILES
    assert [file.name for file in copy.parent.iterdir()] == ["copy"]


def test_an_empty_directory_and_a_link_may_become_a_bundle(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    save_bundle(bundle, tmp_path / "link", **TEXTS)
    save_bundle(bundle, tmp_path / "link", **TEXTS)
    assert (tmp_path / "link").is_symlink()
    assert load_bundle(tmp_path / "there").name == "tiny"


def test_what_is_no_bundle_is_not_replaced(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    (tmp_path / "file").write_text("more work")
    for name in ("thesis", "file"):
        with pytest.raises(BundleError, match=f"{name} is .*choose"):
            save_bundle(bundle, tmp_path / name, **TEXTS)
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "years of work"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "thesis"]


@contextmanager
def small_disk(max_bytes: int) -> Iterator[None]:
    """No file can grow beyond `max_bytes`: writing fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("part", ["weights", "card"])
def test_a_write_that_fails_leaves_what_was_there(bundle: Bundle, copy: Path, part: str) -> None:
    before = {file.name: file.read_bytes() for file in copy.iterdir()}
    weights = (copy / "weights.safetensors").stat().st_size
    texts = {**TEXTS, "card": "x" * (weights + 5000)}
    with small_disk(weights // 2 if part == "weights" else weights + 1000), pytest.raises(BundleError) as caught:
        save_bundle(bundle, copy, **texts)
    assert f"{copy} cannot be written" in str(caught.value)
    assert {file.name: file.read_bytes() for file in copy.iterdir()} == before
    assert [file.name for file in copy.parent.iterdir()] == ["copy"]
    assert load_bundle(copy).name == "tiny"


def test_a_parent_that_is_a_file(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleError, match="cannot be written"):
        save_bundle(bundle, tmp_path / "file" / "bundle", **TEXTS)
