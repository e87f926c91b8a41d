"""The generated toy data set: small pictures of coloured shapes, each with the one caption a small grammar gives it.

    Meaning  what is to be seen; `all_meanings` lists every one of them
      -> compose      Scene: exact places, radii and colours, jittered        (random)
      -> draw         picture, RGB, SIDE x SIDE                               (Pillow)
    Scene    -> understand -> Meaning     reads the geometry, knows nothing of how the scene came about
    Meaning  -> caption               one sentence, and no two meanings share one

`write` stores it in the Flickr layout. Captions of the development and test splits never occur in training, though all
their words, and all pairs of their attributes, do: a model that gets them right has composed them.
Lengths are in pixels of the picture, x to the right, y downwards.
"""

from __future__ import annotations

import colorsys
import json
import random
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from captioner.errors import DatasetError

SIDE = 64
SUPERSAMPLING = 4  # shapes are drawn this much larger and averaged down, which smooths their edges
GENERATOR_VERSION = 1  # raised whenever the same seed gives other pictures or captions

SIZES = {"small": 6.5, "large": 12.0}  # radius
SIZE_BOUNDARY = 9.0
COLOURS = {  # hue in degrees, saturation, value
    "red": (0.0, 0.85, 0.85),
    "yellow": (52.0, 0.85, 0.95),
    "green": (125.0, 0.75, 0.65),
    "blue": (222.0, 0.80, 0.85),
    "purple": (288.0, 0.65, 0.70),
    "black": (0.0, 0.0, 0.10),
}
SHAPES = {"circle": "circles", "square": "squares", "triangle": "triangles", "star": "stars", "cross": "crosses"}
ROWS = ("top", "", "bottom")
COLUMNS = ("left", "", "right")
NUMBERS = {"two": 2, "three": 3, "four": 4}
RELATIONS = ("left of", "above")  # their inverses would say the same scene twice
# Which part of a split each family is. Training has more of the counted ones: seeing that two shapes are alike is the
# hardest thing to learn here, and there are fewest captions to learn it from.
TRAINING_SHARES = {"placed": 0.25, "counted": 0.25, "related": 0.50}
HELD_OUT_SHARES = {"placed": 0.30, "counted": 0.10, "related": 0.60}

Point = tuple[float, float]


@dataclass(frozen=True)
class Look:
    """What one shape looks like: keys of SIZES, COLOURS and SHAPES."""

    size: str
    colour: str
    shape: str


@dataclass(frozen=True)
class Placed:
    """One shape in one of nine places; row and column are 0, 1 or 2 from the top left."""

    look: Look
    row: int
    column: int


@dataclass(frozen=True)
class Counted:
    """Two to four shapes that look the same; `number` is a key of NUMBERS."""

    number: str
    look: Look


@dataclass(frozen=True)
class Related:
    """Two shapes that look different, `first` being left of or above `second`."""

    first: Look
    relation: str
    second: Look


Meaning = Placed | Counted | Related


@dataclass(frozen=True)
class Item:
    """One shape to draw: its kind, its centre and radius, its colour (RGB, 0 to 255)."""

    shape: str
    centre: Point
    radius: float
    colour: tuple[int, int, int]


@dataclass(frozen=True)
class Scene:
    """All that a picture shows: the background's colour and the shapes on it, none of which touch."""

    background: tuple[int, int, int]
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Example:
    """One picture of the data set: its file name, what to draw, and its caption."""

    name: str
    scene: Scene
    caption: str


@dataclass(frozen=True, kw_only=True)
class ShapesOptions:
    """Which data set to generate: the seed and how many pictures each split has."""

    seed: int = 1
    train: int = 9000
    dev: int = 200
    test: int = 200

    def __post_init__(self) -> None:
        if min(self.train, self.dev, self.test) < 1:
            raise DatasetError("A split of the shapes needs at least one picture: raise its number.")


def all_meanings() -> dict[str, list[Meaning]]:
    """Every meaning there is, by family (the keys of TRAINING_SHARES), in a fixed order."""
    looks = [Look(size, colour, shape) for size in SIZES for colour in COLOURS for shape in SHAPES]
    return {
        "placed": [Placed(look, row, column) for look in looks for row in range(3) for column in range(3)],
        "counted": [Counted(number, look) for number in NUMBERS for look in looks],
        "related": [Related(a, relation, b) for a in looks for relation in RELATIONS for b in looks if a != b],
    }


def caption(meaning: Meaning) -> str:
    """The canonical sentence, lower-cased, without a full stop."""
    match meaning:
        case Placed(look, row, column):
            place = f"{ROWS[row]} {COLUMNS[column]}".strip()
            return f"{_one(look)} at the {place}" if place else f"{_one(look)} in the middle"
        case Counted(number, look):
            return f"{number} {look.size} {look.colour} {SHAPES[look.shape]}"
        case Related(first, relation, second):
            return f"{_one(first)} {relation} {_one(second)}"


def _one(look: Look) -> str:
    return f"a {look.size} {look.colour} {look.shape}"


def understand(scene: Scene) -> Meaning:
    """What a scene shows, from its geometry and colours alone; DatasetError where the grammar has no word for it."""
    looks = [_look(item) for item in scene.items]
    if len(looks) == 1:
        x, y = scene.items[0].centre
        return Placed(looks[0], int(y * 3 / SIDE), int(x * 3 / SIDE))
    if len(set(looks)) == 1:
        for number, count in NUMBERS.items():
            if count == len(looks):
                return Counted(number, looks[0])
    if len(looks) == 2:
        (x0, y0), (x1, y1) = (item.centre for item in scene.items)
        beside = abs(x1 - x0) > abs(y1 - y0)
        first, second = looks if (x1 > x0 if beside else y1 > y0) else reversed(looks)
        return Related(first, "left of" if beside else "above", second)
    raise DatasetError("The grammar cannot say this scene: show one shape, two, or up to four that look the same.")


def _look(item: Item) -> Look:
    return Look("small" if item.radius < SIZE_BOUNDARY else "large", _colour_name(item.colour), item.shape)


def _colour_name(colour: tuple[int, int, int]) -> str:
    if max(colour) < 90:
        return "black"
    hue = colorsys.rgb_to_hsv(*(channel / 255 for channel in colour))[0] * 360
    hues = {name: hue_of_name for name, (hue_of_name, saturation, _) in COLOURS.items() if saturation}
    return min(hues, key=lambda name: abs((hue - hues[name] + 180) % 360 - 180))


def compose(meaning: Meaning, chance: random.Random) -> Scene:
    """A scene that shows the meaning, with light jitter of place, size, hue and background."""
    match meaning:
        case Placed(look, row, column):
            items = [_item(look, (_third(column, chance), _third(row, chance)), chance)]
        case Counted(number, look):
            quarters = [(x, y) for x in (16.0, 48.0) for y in (16.0, 48.0)]
            places = chance.sample(quarters, NUMBERS[number])
            items = [_item(look, (_near(x, 2.2, chance), _near(y, 2.2, chance)), chance) for x, y in places]
        case Related(first, relation, second):
            across = chance.uniform(17.0, 47.0)  # where the pair is, across the direction of its relation
            places = [(_near(along, 2.2, chance), _near(across, 3.0, chance)) for along in (16.0, 48.0)]
            if relation == "above":
                places = [(y, x) for x, y in places]
            items = [_item(look, place, chance) for look, place in zip((first, second), places, strict=True)]
            chance.shuffle(items)  # so that the order of the items says nothing
    background = _rgb(chance.uniform(0, 360), chance.uniform(0.0, 0.06), chance.uniform(0.88, 1.0))
    return Scene(background, tuple(items))


def _third(index: int, chance: random.Random) -> float:
    # The outer centres stay a large radius and a pixel away from the edge, and 13 pixels from those in the middle.
    return _near((15.5, 32.0, 48.5)[index], 1.7, chance)


def _near(value: float, jitter: float, chance: random.Random) -> float:
    return value + chance.uniform(-jitter, jitter)


def _item(look: Look, centre: Point, chance: random.Random) -> Item:
    hue, saturation, value = COLOURS[look.colour]
    # Black has no hue to keep, and less room before it turns grey.
    colour = _rgb(_near(hue, 8.0, chance), max(0.0, _near(saturation, 0.07, chance)), _near(value, 0.05, chance))
    return Item(look.shape, centre, SIZES[look.size] * _near(1.0, 0.06, chance), colour)


def _rgb(hue: float, saturation: float, value: float) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(hue % 360 / 360, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


# Corners around (0, 0) for radius 1, y downwards. All shapes but the circle, which Pillow knows, are polygons.
_CORNERS: dict[str, Sequence[Point]] = {
    "square": [(-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88)],
    "triangle": [(0.0, -1.0), (1.0, 0.85), (-1.0, 0.85)],
    "star": [  # five points of radius 1 and, between them, five notches of radius 0.4
        (0.0, -1.0), (0.235, -0.324), (0.951, -0.309), (0.380, 0.124), (0.588, 0.809),
        (0.0, 0.4), (-0.588, 0.809), (-0.380, 0.124), (-0.951, -0.309), (-0.235, -0.324),
    ],
    "cross": [
        (-0.3, -1.0), (0.3, -1.0), (0.3, -0.3), (1.0, -0.3), (1.0, 0.3), (0.3, 0.3),
        (0.3, 1.0), (-0.3, 1.0), (-0.3, 0.3), (-1.0, 0.3), (-1.0, -0.3), (-0.3, -0.3),
    ],
}  # fmt: skip


def draw(scene: Scene) -> Image.Image:
    """The picture of a scene: RGB, SIDE x SIDE."""
    large = Image.new("RGB", (SIDE * SUPERSAMPLING, SIDE * SUPERSAMPLING), scene.background)
    pen = ImageDraw.Draw(large)
    for item in scene.items:
        x, y, radius = (value * SUPERSAMPLING for value in (*item.centre, item.radius))
        if item.shape == "circle":
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=item.colour)
        else:
            corners = [(x + radius * right, y + radius * down) for right, down in _CORNERS[item.shape]]
            pen.polygon(corners, fill=item.colour)
    return large.reduce(SUPERSAMPLING)


def examples(options: ShapesOptions = ShapesOptions()) -> dict[str, list[Example]]:
    """The splits "train", "dev" and "test"; nothing is drawn yet. The same options always give the same examples."""
    chance = random.Random(f"shapes {GENERATOR_VERSION} {options.seed}")
    chosen: dict[str, list[Meaning]] = {split: [] for split in ("test", "dev", "train")}
    for family, meanings in all_meanings().items():
        chance.shuffle(meanings)
        for split, wanted in (("test", options.test), ("dev", options.dev)):
            count = round(wanted * HELD_OUT_SHARES[family])
            if count * 4 > len(meanings):
                raise DatasetError(f"The {split} split would take most of the captions there are: make it smaller.")
            chosen[split] += meanings[:count]
            meanings = meanings[count:]
        # Round and round through what is left, so that every caption comes equally often, give or take one.
        count = round(options.train * TRAINING_SHARES[family])
        chosen["train"] += [meanings[index % len(meanings)] for index in range(count)]
    splits: dict[str, list[Example]] = {}
    for split in ("train", "dev", "test"):
        chance.shuffle(chosen[split])
        splits[split] = [
            Example(f"{split}_{index:05d}.png", compose(meaning, chance), caption(meaning))
            for index, meaning in enumerate(chosen[split])
        ]
    return splits


def write(root: Path, options: ShapesOptions = ShapesOptions()) -> bool:
    """Write the data set into the folder `root` in the Flickr layout; False where it was there already.

    The folder appears whole or not at all. DatasetError where it holds something else.
    """
    if _is_there(root, options):
        return False
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root.parent, prefix=f"{root.name}-", suffix=".part") as folder:
            # A folder inside, because the outer one is closed to other users and removed in any case.
            whole = Path(folder) / "whole"
            _write_files(whole, options)
            whole.rename(root)
    except OSError as error:
        if _is_there(root, options):  # another process was quicker
            return False
        raise DatasetError(f"{root} could not be written ({error.strerror}): choose another folder.") from error
    return True


def _write_files(folder: Path, options: ShapesOptions) -> None:
    (folder / "Images").mkdir(parents=True)
    lines: list[str] = []
    for split, members in examples(options).items():
        for example in members:
            draw(example.scene).save(folder / "Images" / example.name, compress_level=1)
            lines.append(f"{example.name}#0\t{example.caption}\n")
        names = "".join(f"{example.name}\n" for example in members)
        (folder / f"shapes.{split}Images.txt").write_text(names, encoding="utf-8")
    (folder / "shapes.token.txt").write_text("".join(lines), encoding="utf-8")
    (folder / "shapes.json").write_text(_description(options), encoding="utf-8")


def _description(options: ShapesOptions) -> str:
    return json.dumps({"generator_version": GENERATOR_VERSION, **asdict(options)}, indent=2) + "\n"


def _is_there(root: Path, options: ShapesOptions) -> bool:
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    description = root / "shapes.json"
    if description.is_file() and description.read_text(encoding="utf-8") == _description(options):
        pictures = sum(1 for _ in (root / "Images").glob("*.png"))
        if pictures == sum(len(members) for members in examples(options).values()):
            return True
    raise DatasetError(f"{root} holds something else, or not all of these shapes: delete it or choose another folder.")
