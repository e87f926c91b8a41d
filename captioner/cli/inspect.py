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
        elif isinstance(value, list):
            yield f"{' ' * indent}{name}: {', '.join(map(str, value)) or '(none)'}"
        else:
            yield f"{' ' * indent}{name}: {'(none)' if value is None else value}"
