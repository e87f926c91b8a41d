"""Make the shipped model of a trained bundle: with its scores, its card and its licence.

captioner evaluate --data FOLDER --bundle runs/flickr8k-2/bundle --output runs/scores.json
python data/flickr8k/ship.py --data FOLDER --bundle runs/flickr8k-2/bundle --scores runs/scores.json
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

from captioner.bundle import default_bundle, load_bundle, save_bundle
from captioner.card import model_card
from captioner.datasets.kinds import load_split
from captioner.decoding.options import DecodingOptions
from captioner.evaluation.captioning import calibrated

LICENCE = Path(__file__).with_name("MODEL-LICENSE")


def main() -> None:
    """Read the arguments and write captioner/bundles/default."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--scores", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=default_bundle())
    arguments = parser.parse_args()
    measured = json.loads(arguments.scores.read_text(encoding="utf-8"))
    scores = {name: measured[name] for name in ("scores", "intervals", "signature")}
    # what the scores were measured with is what the model does by default
    names = [field.name for field in dataclasses.fields(DecodingOptions)]
    decoding = DecodingOptions.from_dict({name: scores["signature"][name] for name in names})
    del scores["signature"]["model"]  # these very weights, under the digest from before they had scores
    bundle = dataclasses.replace(
        load_bundle(arguments.bundle),
        decoding=decoding,
        scores=scores,
        licence="research; trained on research data (Flickr8k)",
    )
    bundle = calibrated(bundle, load_split(arguments.data, "dev"), split="dev")
    digest = save_bundle(
        bundle, arguments.output, card=model_card(bundle), licence_text=LICENCE.read_text(encoding="utf-8")
    )
    print(f"{bundle.name}@{digest} written to {arguments.output}")


if __name__ == "__main__":
    main()
