"""`captioner inspect`: what a model bundle is, after every file of it has been verified."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import click


@click.command
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
def inspect(bundle: Path | None) -> None:
    """Verify the model BUNDLE (the shipped one if not given) and print what it says about itself."""
    from captioner.manifest import default_bundle, digest_of, read_manifest

    path = default_bundle() if bundle is None else bundle
    manifest = read_manifest(path)
    click.echo(f"{path}: complete and unaltered, {manifest.get('name')}@{digest_of(path)}")
    for line in outline(manifest):
        click.echo(line)


def outline(values: Mapping[str, object], indent: int = 0) -> Iterator[str]:
    """The lines of a nested mapping: `name: value`, and what lies deeper indented by two spaces."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield f"{' ' * indent}{name}:"
            yield from outline(value, indent + 2)
        elif isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
            for number, item in enumerate(value, start=1):
                yield f"{' ' * indent}{name}, {number} of {len(value)}:"
                yield from outline(item, indent + 2)
        elif isinstance(value, list):
            yield f"{' ' * indent}{name}: {', '.join(map(str, value)) or '(none)'}"
        else:
            shown = "(none)" if value is None else f"{value:.4g}" if isinstance(value, float) else value
            yield f"{' ' * indent}{name}: {shown}"
