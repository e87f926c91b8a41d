"""Generate the toy data set of coloured shapes. What it holds is told in README.md beside this file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from captioner.datasets.shapes import ShapesOptions, write
from captioner.errors import DatasetError


def main() -> int:
    """Write the data set unless it is there; 0 when done, 1 with one line on stderr when that cannot be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path("data/shapes/raw"), help="the folder to write (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="another seed, other pictures (%(default)s)")
    arguments = parser.parse_args()
    options = ShapesOptions(seed=arguments.seed)
    try:
        written = write(arguments.root, options)
    except DatasetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    counts = f"{options.train:,} training, {options.dev} development and {options.test} test pictures"
    print(f"{arguments.root}: {counts}" if written else f"{arguments.root}: already there, nothing to do")
    return 0


if __name__ == "__main__":
    sys.exit(main())
