"""The options of decoding, validated once."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

from captioner.errors import DecodingError

# The least and the most of each option. With these bounds length ** penalty stays far inside float32, so that a
# normalised score is never inf, 0 or NaN.
BOUNDS: Mapping[str, tuple[int, int]] = {
    "beam_size": (1, 100),
    "num_captions": (1, 100),
    "length_penalty": (0, 10),
    "min_length": (0, 1000),
    "max_length": (1, 1000),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecodingOptions:
    """How captions are looked for. A wrong value or a contradiction raises DecodingError, which names the option.

    `BOUNDS` has the least and the most of each.

    beam_size: hypotheses kept for each image; 1 is greedy decoding.
    num_captions: hypotheses returned for each image, best first; at most beam_size.
    length_penalty: a score is the log-probability divided by (words + 1) ** length_penalty: 0 compares plain
        log-probabilities, which favours short captions; 1 compares means per token; more favours long captions.
    min_length: fewest words of a caption, at most max_length; <end> is not counted.
    max_length: most words of a caption; <end> is not counted.
    """

    beam_size: int = 3
    num_captions: int = 1
    length_penalty: float = 1.0
    min_length: int = 1
    max_length: int = 30

    def __post_init__(self) -> None:
        for name, (least, most) in BOUNDS.items():
            check = _check_number if name == "length_penalty" else _check_integer
            check(name, getattr(self, name), least, most)
        if self.num_captions > self.beam_size:
            raise DecodingError(
                f"num_captions must be between 1 and beam_size, which is {self.beam_size}, not {self.num_captions}; "
                "ask for fewer captions or for a larger beam_size."
            )
        if self.min_length > self.max_length:
            raise DecodingError(
                f"min_length must be between 0 and max_length, which is {self.max_length}, not {self.min_length}; "
                "lower min_length or raise max_length."
            )

    def to_dict(self) -> dict[str, Any]:
        """Every option by its name, as plain JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The reverse of to_dict. An option that is absent has its default; an unknown one raises DecodingError."""
        known = [field.name for field in dataclasses.fields(cls)]
        for name in values:
            if name not in known:
                raise DecodingError(f"There is no decoding option {name!r}; the options are {', '.join(known)}.")
        return cls(**values)


def _check_integer(name: str, value: object, least: int, most: int) -> None:
    # bool is a subclass of int, but True is no number of beams.
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise DecodingError(f"{name} must be a whole number between {least} and {most}, not {value!r}.")


def _check_number(name: str, value: object, least: int, most: int) -> None:
    # NaN is never between two numbers.
    if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value <= most:
        raise DecodingError(f"{name} must be a finite number between {least} and {most}, not {value!r}.")
