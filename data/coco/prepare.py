"""Fetch COCO captions, or adopt what is there; README.md beside this file says what it brings."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from captioner.datasets.coco_preparation import COUNTS, Preparation
from captioner.errors import CaptionerError


def main() -> int:
    """0 when all is there, 1 with one line on stderr when it cannot be, 3 when some pictures cannot be read."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path("data/coco/raw"), help="the folder (%(default)s)")
    parser.add_argument("--year", choices=list(COUNTS), default="2014", help="2014 has Karpathy's splits (%(default)s)")
    parser.add_argument("--from", dest="mirror", metavar="URL", help="a mirror of the published archives")
    parser.add_argument("--test", action="store_true", help="also the test pictures, which have no captions")
    parser.add_argument("--subset", action="store_true", help="there may be fewer pictures than are published")
    parser.add_argument("--cache", type=Path, default=Path("runs/features"), help="as data.cache (%(default)s)")
    arguments = parser.parse_args()
    try:
        broken = Preparation(**vars(arguments), say=lambda line: print(line, flush=True)).run()
    except CaptionerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: run the same command again to go on", file=sys.stderr)
        return 130
    return 3 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
