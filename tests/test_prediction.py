"""Captioner: the one way from pictures to captions, against the model itself."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from captioner.bundle import Bundle, load_bundle
from captioner.captions import Alternative, Caption, Outcome, Word, row
from captioner.decoding.options import DecodingOptions
from captioner.errors import BundleError, DecodingError, ImageError, UnreadableImage
from captioner.geometry import Geometry
from captioner.images import ImageSource
from captioner.manifest import digest_of, read_manifest
from captioner.model.caption_model import CaptionModel
from captioner.model.configuration import DecoderConfiguration, EncoderConfiguration
from captioner.prediction import Captioner
from captioner.preprocessing import Preprocessing
from captioner.text.tokenizer import join
from captioner.text.vocabulary import Vocabulary
from tests.conftest import Draw, Encode

BEAM = DecodingOptions(beam_size=4, num_captions=3, max_length=8)
GREEDY = DecodingOptions(beam_size=1, max_length=8)
FORBIDDEN = [Vocabulary.pad, Vocabulary.start, Vocabulary.unk]


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    return load_bundle(tiny_bundle)


@pytest.fixture(scope="module")
def captioner(tiny_bundle: Path) -> Iterator[Captioner]:
    with Captioner.from_bundle(tiny_bundle, precision="float32", processes=2) as captioner:
        yield captioner


@pytest.fixture(scope="module")
def pictures(draw: Draw, encode: Encode) -> list[bytes]:
    return [encode(draw(seed=seed), "PNG") for seed in range(7)]


@pytest.fixture(scope="module")
def pixels(draw: Draw) -> npt.NDArray[np.uint8]:
    """The same pictures (7, 64, 64, 3) after the bundle's geometry."""
    return np.stack([np.asarray(Geometry(size=64).apply(draw(seed=seed))) for seed in range(7)])


def ids(caption: Caption, vocabulary: Vocabulary) -> list[int]:
    return vocabulary.encode(word.word for word in caption.words)


def forced(model: CaptionModel, features: Tensor, tokens: list[int]) -> list[float]:
    """The log-probability of each token and of <end>, by teacher forcing of one picture (1, P, C)."""
    with torch.no_grad():
        logits, _ = model.decoder(features, torch.tensor([[[Vocabulary.start, *tokens]]]))
    log_probabilities = torch.log_softmax(logits[0, 0], dim=-1)  # (T + 1, V)
    return [float(log_probabilities[t, token]) for t, token in enumerate([*tokens, Vocabulary.end])]


# --- the numbers


def test_greedy_is_the_loop_of_argmax(bundle: Bundle, captioner: Captioner, pixels: npt.NDArray[np.uint8]) -> None:
    model = bundle.model
    captions = captioner.caption_features(captioner.encode(pixels), GREEDY)
    assert len({caption.text for caption in captions}) > 1
    for picture, caption in zip(pixels, captions, strict=True):
        images = bundle.preprocessing.numbers(torch.from_numpy(picture).unsqueeze(0))
        tokens: list[int] = []
        while len(tokens) < GREEDY.max_length:
            with torch.no_grad():
                logits, _ = model(images, torch.tensor([[[Vocabulary.start, *tokens]]]))
            last = logits[0, 0, -1]
            last[FORBIDDEN] = -math.inf
            if not tokens:  # min_length
                last[Vocabulary.end] = -math.inf
            if (token := int(last.argmax())) == Vocabulary.end:
                break
            tokens.append(token)
        assert ids(caption, bundle.vocabulary) == tokens
        assert caption.text == join(bundle.vocabulary.decode(tokens))


@pytest.mark.parametrize("options", [GREEDY, BEAM, replace(BEAM, length_penalty=0.0), replace(BEAM, min_length=5)])
def test_a_log_probability_is_that_of_teacher_forcing(
    bundle: Bundle, captioner: Captioner, pixels: npt.NDArray[np.uint8], options: DecodingOptions
) -> None:
    features = captioner.encode(pixels)
    for index, caption in enumerate(captioner.caption_features(features, options)):
        expected = forced(bundle.model, features[index : index + 1].clone(), ids(caption, bundle.vocabulary))
        assert caption.log_probability == pytest.approx(math.fsum(expected), abs=1e-4)
        assert [word.probability for word in caption.words] == pytest.approx(
            [math.exp(value) for value in expected[:-1]], abs=1e-5
        )
        assert caption.score == pytest.approx(caption.log_probability / len(expected) ** options.length_penalty)
        probabilities = [math.exp(value) for value in expected[:-1]]
        assert caption.confidence == pytest.approx(math.fsum(probabilities) / len(probabilities), abs=1e-5)
        assert 0 < caption.confidence < 1
        assert options.min_length <= len(caption.words) <= options.max_length


def test_a_calibrated_bundle_says_what_its_words_are_worth(bundle: Bundle, pixels: npt.NDArray[np.uint8]) -> None:
    options = replace(BEAM, num_captions=2)
    with Captioner(replace(bundle, calibration={"slope": 0.5, "intercept": 1.0}), precision="float32") as calibrated:
        caption = calibrated.caption_features(calibrated.encode(pixels[:1]), options)[0]
    expected = [1 / (1 + math.exp(-(0.5 * math.log(word.probability) + 1.0))) for word in caption.words]
    assert caption.confidence == pytest.approx(math.fsum(expected) / len(expected))
    assert 0 < caption.alternatives[0].confidence < 1
    with pytest.raises(BundleError, match="slope is 'steep'; it must be a finite number"):
        Captioner(replace(bundle, calibration={"slope": "steep", "intercept": 1.0}), precision="float32")


def test_batches_can_be_the_callers(captioner: Captioner, pictures: list[bytes]) -> None:
    expected = [outcome.caption for outcome in captioner.stream(pictures[:3], BEAM)]
    groups = [[], pictures[:1], [], [b"no picture", *pictures[1:3]], [], []]
    found = list(captioner.stream_batches(groups, BEAM))
    assert [[outcome.source for outcome in outcomes] for outcomes in found] == groups
    captions = [outcome.caption for outcomes in found for outcome in outcomes if outcome.caption is not None]
    assert [caption.text for caption in captions] == [caption.text for caption in expected if caption is not None]
    assert isinstance(found[3][0].error, UnreadableImage)
    assert list(captioner.stream_batches([[], []])) == [[], []]
    assert list(captioner.stream_batches([])) == []


# --- given sentences


def test_a_given_sentence_is_as_probable_as_teacher_forcing_says(
    bundle: Bundle, captioner: Captioner, pixels: npt.NDArray[np.uint8]
) -> None:
    known = list(bundle.vocabulary.ordinary[:5])
    sentences = [[join(known[:number]), "zeppelin " + known[0]] for number in (1, 2, 3, 4, 5, 3, 2)]
    features = captioner.encode(pixels)
    found = captioner.score_features(features, sentences)
    table = {}  # (picture, sentence) -> its log-probability a token
    for image in range(len(pixels)):
        for sentence in {sentence for group in sentences for sentence in group}:
            tokens = bundle.vocabulary.encode(sentence.split())
            table[image, sentence] = forced(bundle.model, features[image : image + 1].clone(), tokens)
    for image, (group, scores) in enumerate(zip(sentences, found, strict=True)):
        for sentence, score in zip(group, scores, strict=True):
            expected = table[image, sentence]
            assert score.sentence == sentence
            assert score.log_probability == pytest.approx(math.fsum(expected), abs=1e-4)
            assert score.score == pytest.approx(math.fsum(expected) / len(expected), abs=1e-4)
            probabilities = [math.exp(value) for value in expected[:-1]]
            assert [word.probability for word in score.words] == pytest.approx(probabilities, abs=1e-5)
            elsewhere = [math.fsum(table[(image + turn) % 7, sentence]) / len(expected) for turn in (1, 2, 3, 4)]
            assert score.margin == pytest.approx(score.score - math.fsum(elsewhere) / 4, abs=1e-4)
            assert score.unknown == (("zeppelin",) if sentence.startswith("zeppelin") else ())


def test_the_models_own_caption_has_the_score_of_the_search(captioner: Captioner, pictures: list[bytes]) -> None:
    options = replace(BEAM, length_penalty=1.0)
    captions = captioner.caption(pictures, options)
    judged = list(captioner.score([(p, [c.text]) for p, c in zip(pictures, captions, strict=True)], batch_size=3))
    for caption, outcome in zip(captions, judged, strict=True):
        (score,) = outcome.scores
        assert score.score == pytest.approx(caption.score, abs=1e-4)
        assert score.margin is not None


def test_given_sentences_of_pictures_that_fail_or_have_none(captioner: Captioner, pictures: list[bytes]) -> None:
    pairs = [(pictures[0], ["a dog"]), (b"no picture", ["a dog"]), (pictures[1], []), (pictures[2], ["", "a dog"])]
    first, failed, none, last = captioner.score(pairs)
    assert isinstance(failed.error, UnreadableImage)
    assert failed.scores == ()
    assert (none.error, none.scores) == (None, ())
    assert first.scores[0].sentence == last.scores[1].sentence == "a dog"
    assert last.scores[0].words == ()
    assert math.isfinite(last.scores[0].score)  # the probability of ending at once


def test_one_picture_alone_has_no_margin(captioner: Captioner, pictures: list[bytes]) -> None:
    (judged,) = captioner.score([(pictures[0], ["a dog"])])
    assert judged.scores[0].margin is None


def test_a_batch_gives_what_one_by_one_gives(captioner: Captioner, pixels: npt.NDArray[np.uint8]) -> None:
    together = captioner.caption_features(captioner.encode(pixels), BEAM)
    for index, caption in enumerate(together):
        (alone,) = captioner.caption_features(captioner.encode(pixels[index : index + 1]), BEAM)
        assert alone.text == caption.text
        assert alone.score == pytest.approx(caption.score, abs=1e-4)
        assert [a.caption for a in alone.alternatives] == [a.caption for a in caption.alternatives]


@pytest.mark.parametrize(("cell", "attention"), [("lstm", True), ("gru", False), ("rnn", True)])
def test_in_float64_the_batch_makes_no_difference_at_all(cell: str, attention: bool) -> None:
    torch.manual_seed(3)
    vocabulary = Vocabulary(f"w{i}" for i in range(12))
    configuration = DecoderConfiguration(
        cell=cell, attention=attention, num_layers=2, embedding_size=8, hidden_size=8, attention_size=8
    )
    encoder = EncoderConfiguration(name="squeezenet1_1", cut="features.3")
    model = CaptionModel(encoder, configuration, vocabulary_size=len(vocabulary))
    model.decoder.double()
    captioner = Captioner(Bundle(name="m", model=model, vocabulary=vocabulary, preprocessing=Preprocessing()))
    features = torch.randn(6, 9, 128, dtype=torch.float64) * 3
    together = captioner.caption_features(features, BEAM)
    for index, caption in enumerate(together):
        (alone,) = captioner.caption_features(features[index : index + 1], BEAM)
        assert alone.text == caption.text
        assert alone.score == pytest.approx(caption.score, abs=1e-13)
        assert [word.probability for word in alone.words] == pytest.approx(
            [word.probability for word in caption.words], abs=1e-13
        )


# --- what comes out


def test_the_image_path_and_the_feature_path_agree(
    captioner: Captioner, pictures: list[bytes], pixels: npt.NDArray[np.uint8]
) -> None:
    by_image = captioner.caption(pictures, BEAM)
    by_features = captioner.caption_features(captioner.encode(pixels), BEAM)
    assert [caption.text for caption in by_image] == [caption.text for caption in by_features]
    for one, other in zip(by_image, by_features, strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-6)
        assert one.attention is not None
        assert other.attention is not None
        np.testing.assert_allclose(one.attention, other.attention, atol=1e-6)


def test_cached_half_precision_features_give_the_same_captions(
    captioner: Captioner, pixels: npt.NDArray[np.uint8]
) -> None:
    features = captioner.encode(pixels)
    exact = captioner.caption_features(features, BEAM)
    halved = captioner.caption_features(features.to(torch.float16), BEAM)
    for one, other in zip(exact, halved, strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-2)


def test_attention_is_a_map_a_word(captioner: Captioner, pictures: list[bytes]) -> None:
    (caption,) = captioner.caption(pictures[:1])
    assert caption.attention is not None
    assert caption.attention.shape == (len(caption.words), 7, 7)
    assert caption.attention.dtype == np.float32
    np.testing.assert_allclose(caption.attention.sum(axis=(1, 2)), 1.0, atol=1e-5)


def test_alternatives_are_the_rest_of_the_best(captioner: Captioner, pictures: list[bytes]) -> None:
    (caption,) = captioner.caption(pictures[:1], BEAM)
    assert len(caption.alternatives) == 2
    scores = [caption.score, *(other.score for other in caption.alternatives)]
    assert scores == sorted(scores, reverse=True)
    texts = {caption.text, *(other.caption for other in caption.alternatives)}
    assert len(texts) == 3


def test_an_empty_caption_is_a_caption(bundle: Bundle) -> None:
    model = CaptionModel(
        bundle.model.encoder.configuration, bundle.model.decoder.configuration, vocabulary_size=len(bundle.vocabulary)
    )
    with torch.no_grad():
        model.decoder.bias[Vocabulary.end] = 50.0
    captioner = Captioner(replace(bundle, model=model), precision="float32")
    (caption,) = captioner.caption_features(torch.zeros(1, 49, 128), DecodingOptions(min_length=0))
    assert caption.text == ""
    assert caption.words == ()
    assert caption.attention is not None
    assert caption.attention.shape == (0, 7, 7)


def test_without_attention_there_is_no_map(bundle: Bundle) -> None:
    configuration = replace(bundle.model.decoder.configuration, attention=False)
    model = CaptionModel(bundle.model.encoder.configuration, configuration, vocabulary_size=len(bundle.vocabulary))
    captioner = Captioner(replace(bundle, model=model), precision="float32")
    (caption,) = captioner.caption_features(torch.zeros(1, 49, 128))
    assert caption.attention is None


def test_unknown_words_and_markers_never_come_out(captioner: Captioner, pictures: list[bytes]) -> None:
    for caption in captioner.caption(pictures, DecodingOptions(beam_size=20, num_captions=20)):
        for text in (caption.text, *(other.caption for other in caption.alternatives)):
            assert "<" not in text


def test_no_pictures_give_no_captions(captioner: Captioner) -> None:
    assert captioner.caption([]) == []
    assert list(captioner.stream([])) == []
    assert captioner.caption_features(torch.zeros(0, 49, 128)) == []


# --- many pictures, and broken ones


@pytest.mark.parametrize("batch_size", [1, 2, 3, 32])
def test_a_stream_keeps_the_order_with_broken_files_between(
    captioner: Captioner, pictures: list[bytes], tmp_path: Path, batch_size: int
) -> None:
    sources: list[ImageSource] = list(pictures)
    sources[1] = b"no picture"
    (tmp_path / "broken.jpg").write_bytes(pictures[4][:200])
    sources[4] = tmp_path / "broken.jpg"
    sources.insert(5, str(tmp_path / "gone.jpg"))
    (tmp_path / "whole.png").write_bytes(pictures[6])
    sources[7] = tmp_path / "whole.png"
    outcomes = list(captioner.stream(iter(sources), BEAM, batch_size=batch_size))
    assert [outcome.source for outcome in outcomes] == sources
    failed = [index for index, outcome in enumerate(outcomes) if outcome.caption is None]
    assert failed == [1, 4, 5]
    for outcome in outcomes:
        assert (outcome.caption is None) == isinstance(outcome.error, ImageError)
    expected = captioner.caption(pictures, BEAM)
    for place, picture in ((0, 0), (2, 2), (3, 3), (6, 5), (7, 6)):
        caption = outcomes[place].caption
        assert caption is not None
        assert caption.text == expected[picture].text
        assert caption.score == pytest.approx(expected[picture].score, abs=1e-4)


def test_a_batch_of_nothing_but_broken_files(captioner: Captioner, pictures: list[bytes]) -> None:
    outcomes = list(captioner.stream([b"", b"x", pictures[0]], batch_size=2))
    assert [outcome.error is None for outcome in outcomes] == [False, False, True]


def test_sources_are_taken_only_as_they_are_needed(captioner: Captioner, pictures: list[bytes]) -> None:
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield pictures[taken % len(pictures)]

    stream = captioner.stream(endless(), GREEDY, batch_size=2)
    for _ in range(5):
        next(stream)
    assert taken <= 5 + 2 + 2 * 2
    del stream


def test_caption_raises_the_first_error(captioner: Captioner, pictures: list[bytes]) -> None:
    with pytest.raises(UnreadableImage):
        captioner.caption([pictures[0], b"no picture", pictures[1]])
    assert len(captioner.caption(pictures[:2])) == 2


def test_threads_share_one_captioner(captioner: Captioner, pictures: list[bytes]) -> None:
    expected = [caption.text for caption in captioner.caption(pictures, BEAM)]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda picture: captioner.caption([picture], BEAM)[0].text, pictures * 3))
    assert results == expected * 3


def test_contradictory_options_are_refused() -> None:
    with pytest.raises(DecodingError, match="num_captions"):
        DecodingOptions(beam_size=1, num_captions=2)


# --- one picture at a time


def test_a_picture_read_alone_is_captioned_as_in_a_stream(
    captioner: Captioner, pictures: list[bytes], pixels: npt.NDArray[np.uint8], tmp_path: Path
) -> None:
    (tmp_path / "whole.png").write_bytes(pictures[1])
    sources: list[ImageSource] = [pictures[0], tmp_path / "whole.png", str(tmp_path / "whole.png"), *pictures[2:]]
    read = [future.result(20) for future in [captioner.read(source) for source in sources]]
    np.testing.assert_array_equal(np.stack(read), pixels[[0, 1, 1, 2, 3, 4, 5, 6]])
    expected = captioner.caption(sources, BEAM)
    for picture, other in zip(read, expected, strict=True):
        (caption,) = captioner.caption_features(captioner.encode(picture[None]), BEAM)
        assert caption.text == other.text
        assert caption.score == pytest.approx(other.score, abs=1e-4)


def test_a_picture_that_cannot_be_read_fails_alone(captioner: Captioner, pictures: list[bytes], tmp_path: Path) -> None:
    good, bad, gone = (captioner.read(source) for source in (pictures[0], b"no picture", tmp_path / "gone.png"))
    for future, words in ((bad, "no picture"), (gone, "gone.png")):
        with pytest.raises(UnreadableImage, match=words):
            future.result(20)
    assert good.result(20).shape == (64, 64, 3)


def test_closing_leaves_nobody_waiting_for_a_picture(tiny_bundle: Path, pictures: list[bytes]) -> None:
    captioner = Captioner.from_bundle(tiny_bundle, precision="float32", processes=1)
    futures = [captioner.read(picture) for picture in pictures * 5]
    captioner.close()
    assert all(future.done() for future in futures)
    assert any(future.cancelled() for future in futures)
    assert captioner.read(pictures[0]).result(20).shape == (64, 64, 3)  # with new children
    captioner.close()


# --- the bundle


def test_it_says_which_model_it_is(captioner: Captioner, tiny_bundle: Path) -> None:
    assert captioner.model == f"tiny@{digest_of(tiny_bundle)}"
    assert captioner.manifest == read_manifest(tiny_bundle)
    assert captioner.options == DecodingOptions(max_length=12)


def test_the_bundles_options_are_the_default(captioner: Captioner, pictures: list[bytes]) -> None:
    by_default, told = captioner.caption(pictures[:1]), captioner.caption(pictures[:1], captioner.options)
    assert by_default[0].text == told[0].text
    assert len(by_default[0].words) <= 12


def test_a_missing_bundle_is_our_error(tmp_path: Path) -> None:
    with pytest.raises(BundleError):
        Captioner.from_bundle(tmp_path)


def test_closing_twice_is_safe(tiny_bundle: Path, pictures: list[bytes]) -> None:
    captioner = Captioner.from_bundle(tiny_bundle, precision="float32", processes=1)
    captioner.close()
    with captioner:
        assert captioner.caption(pictures[:1])
    captioner.close()


# --- the row


def test_a_row_of_a_caption() -> None:
    caption = Caption(
        text="a dog's ball",
        score=-0.123456,
        log_probability=-0.617283,
        confidence=0.883848,
        words=(Word(word="a", probability=0.99999), Word(word="dog", probability=0.5)),
        alternatives=(Alternative(caption="a cat", score=-1.00004, log_probability=-3.00014, confidence=0.36788),),
        attention=np.zeros((2, 7, 7), dtype=np.float32),
    )
    made = row(Outcome(source=b"", caption=caption, error=None), image="a.jpg", model="tiny@1")
    assert made == {
        "image": "a.jpg",
        "caption": "a dog's ball",
        "score": -0.1235,
        "confidence": 0.8838,
        "alternatives": [{"caption": "a cat", "score": -1.0, "log_probability": -3.0001, "confidence": 0.3679}],
        "words": [{"word": "a", "probability": 1.0}, {"word": "dog", "probability": 0.5}],
        "model": "tiny@1",
    }
    assert json.loads(json.dumps(made)) == made


def test_a_row_of_a_failure() -> None:
    outcome = Outcome(source="x", caption=None, error=UnreadableImage("It is broken: take another."))
    assert row(outcome, image="a.jpg", model="tiny@1") == {
        "image": "a.jpg",
        "error": {"type": "UnreadableImage", "detail": "It is broken: take another."},
    }
