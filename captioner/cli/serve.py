"""`captioner serve`: the web service and its page."""

from __future__ import annotations

from pathlib import Path

import click


@click.command
@click.option(
    "--bundle",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="The model bundle; the shipped one if not given.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="The port; 0 takes any free one."
)
@click.option(
    "--threads",
    type=click.IntRange(2),
    default=16,
    show_default=True,
    help="Worker threads. Half of them may wait for captions; the rest keep answering and turn away what is too much.",
)
@click.option(
    "--processes",
    type=click.IntRange(1),
    help="Processes that read pictures, of 1 GiB at most each; one a processor, but no more than 8, if not given.",
)
def serve(bundle: Path | None, host: str, port: int, threads: int, processes: int | None) -> None:
    """Serve captions over HTTP, with a page for people at the address that is printed.

    Stop it with Ctrl-C or SIGTERM: the requests that were accepted are answered first.
    """
    from captioner.prediction import Captioner
    from service.server import serve as run_server
    from service.settings import Settings

    settings = Settings(host=host, port=port, threads=threads, max_waiting=threads // 2)
    if not settings.is_local:
        click.echo(
            f"captioner: warning: {host} can be reached from other machines, and whoever reaches it may use it; "
            "put a proxy with access control in front.",
            err=True,
        )
    run_server(
        lambda: Captioner.from_bundle(bundle, limits=settings.limits, processes=processes),
        settings,
        announce=lambda url: click.echo(f"Captions at {url} (stop with Ctrl-C)"),
    )
