"""`captioner serve`: the web service and its page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


@click.command(
    epilog="Every setting of docs/service.md can also be given in the environment, such as CAPTIONER_PORT=8000; "
    "an option wins."
)
@click.option(
    "--bundle",
    metavar="FOLDER",
    envvar="CAPTIONER_BUNDLE",
    type=click.Path(path_type=Path),
    help="The model bundle; the shipped one if not given.",
)
@click.option(
    "--device",
    envvar="CAPTIONER_DEVICE",
    type=click.Choice(["cpu", "cuda", "auto"]),
    default="cpu",
    show_default=True,
    help="Where the model runs; auto is cuda where there is one.",
)
@click.option("--host", help="The address to listen on; 127.0.0.1 if not given.")
@click.option("--port", type=click.IntRange(0, 65535), help="The port; 0 takes any free one; 8000 if not given.")
@click.option(
    "--threads",
    type=click.IntRange(2),
    help="Worker threads, 48 if not given. Two thirds of them may wait for captions; the rest keep answering and turn "
    "away what is too much.",
)
@click.option(
    "--processes",
    envvar="CAPTIONER_PROCESSES",
    type=click.IntRange(1),
    help="Processes that read pictures, of 1 GiB at most each; one a processor, but no more than 8, if not given.",
)
@click.option(
    "--keys-file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The digests of API keys, a line each. With it, whoever asks for a caption needs a key.",
)
@click.option(
    "--no-auth",
    is_flag=True,
    default=None,
    help="Listen on an address that other machines reach without asking anybody for a key.",
)
@click.option(
    "--new-key",
    is_flag=True,
    help="Make an API key and exit: its line for the file of keys goes to standard output, the key itself, which is "
    "kept nowhere, to standard error.",
)
def serve(bundle: Path | None, device: str, processes: int | None, new_key: bool, **chosen: Any) -> None:
    """Serve captions over HTTP, with a page for people at the address that is printed.

    Stop it with Ctrl-C or SIGTERM: the requests that were accepted are answered first. SIGHUP has it load its model and
    its keys again. It writes a line of JSON for each request to standard error.
    """
    import os
    import sys

    if new_key:
        from service.keys import new_key as make_key

        key, line = make_key()
        click.echo(f"The key, shown this once: {key}", err=True)
        click.echo(line)
        return

    if sys.stderr.isatty():  # for the person who waits; elsewhere the log is lines of JSON and nothing else
        click.echo("Loading the model …", err=True)

    import captioner
    from captioner.manifest import default_bundle, read_manifest
    from service import logs
    from service.server import serve as run_server
    from service.settings import Settings

    given = {name: value for name, value in chosen.items() if value is not None}  # of any of the settings' types
    settings = Settings.from_environment(os.environ, **given)
    if not settings.is_local and settings.no_auth:
        click.echo(
            f"captioner: warning: {settings.host} can be reached from other machines, and whoever reaches it may use "
            "it; put a proxy with access control in front.",
            err=True,
        )
    logs.configure()

    def open_captioner() -> captioner.Captioner:
        read_manifest(default_bundle() if bundle is None else bundle)  # a wrong folder is told before torch is loaded
        return captioner.Captioner.from_bundle(bundle, device=device, limits=settings.limits, processes=processes)

    run_server(
        open_captioner,
        settings,
        announce=lambda url: click.echo(f"Captions at {url} (stop with Ctrl-C)"),
    )
    # All is closed and written. Python would go through all of torch once more, which takes a second of computing, and
    # on a busy machine most of a minute, longer than whoever stops the service waits.
    os._exit(0)
