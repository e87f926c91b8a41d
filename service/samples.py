"""Commands and answers that the documentation shows; the tests run the commands and hold the answers to the schemas."""

from __future__ import annotations

from typing import Any

_ENCODED = "$(base64 < photo.jpg | tr -d '\\n')"


def json_command(path: str, body: str) -> str:
    """A command that posts `body`, JSON in which %s stands for a photo in base64."""
    return f"""printf '{body}' "{_ENCODED}" |\n  curl --json @- {{url}}{path}"""


CAPTION_COMMANDS = (
    "curl -F image=@photo.jpg {url}/v1/captions",
    "curl -F image=@photo.jpg -F image=@other.png -F beam_size=5 -F num_captions=3 {url}/v1/captions",
    "curl -H 'Content-Type: image/jpeg' --data-binary @photo.jpg '{url}/v1/captions?num_captions=2'",
    json_command("/v1/captions", '{"images": ["%s"], "attention": true}'),
)
SCORE_COMMANDS = (
    "curl -F image=@photo.jpg -F 'sentence=a dog runs on grass' -F 'sentence=a red car' {url}/v1/score",
    json_command("/v1/score", '{"images": ["%s"], "sentences": ["a dog runs on grass"]}'),
)

_MODEL = "default@3f1c9a52d07b"
_WORDS = [("a", 0.9126), ("dog", 0.8311), ("runs", 0.4702), ("on", 0.5523), ("grass", 0.6094)]
CAPTIONS: dict[str, Any] = {
    "captions": [
        {
            "image": "photo.jpg",
            "caption": "a dog runs on grass",
            "score": -0.4321,
            "confidence": 0.7412,
            "alternatives": [
                {
                    "caption": "a brown dog is running",
                    "score": -0.5832,
                    "log_probability": -3.4992,
                    "confidence": 0.6627,
                }
            ],
            "words": [{"word": word, "probability": probability} for word, probability in _WORDS],
            "model": _MODEL,
        },
        {
            "image": "broken.jpg",
            "error": {
                "type": "UnreadableImage",
                "detail": "The JPEG picture is damaged or cut short; save or download it again.",
            },
        },
    ],
    "timings": {"total_seconds": 0.0832},
}
SCORES: dict[str, Any] = {
    "scores": [
        {
            "image": "photo.jpg",
            "sentences": [
                {
                    "sentence": "a dog runs on grass",
                    "score": -0.4321,
                    "log_probability": -2.5926,
                    "words": [{"word": word, "probability": probability} for word, probability in _WORDS],
                    "unknown": [],
                }
            ],
            "model": _MODEL,
        }
    ],
    "timings": {"total_seconds": 0.0514},
}
MODEL: dict[str, Any] = {
    "name": "default",
    "digest": "3f1c9a52d07b",
    "licence": "research; trained on research data (Flickr8k)",
    "scores": {"scores": {"CIDEr-D": 53.0, "BLEU-4": 20.8}, "signature": {"split": "dev", "beam_size": 3}},
    "decoding": {"beam_size": 3, "num_captions": 1, "length_penalty": 0.75, "min_length": 1, "max_length": 30},
}
