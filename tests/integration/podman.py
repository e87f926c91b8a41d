"""podman with images and containers of its own, and what stands in for official images that cannot be had."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from tests.integration.compose_file import flags

RELEASE = "bookworm"  # the Debian with Python 3.11
PYTHON = "docker.io/library/python:3.11-slim"
CLONE_NEWNET = 0x40000000


def run(command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


class Podman:
    """podman with images and containers of its own, below one folder."""

    def __init__(self, work: Path, runtime: str | None) -> None:
        self.work = work
        # Open files and processes as for this process: a sandbox may not let them be raised.
        configuration = work / "containers.conf"
        configuration.write_text("[containers]\ndefault_ulimits = []\n", encoding="utf-8")
        self.environment = {**os.environ, "CONTAINERS_CONF": str(configuration), "TMPDIR": str(work)}
        self.start = ["podman", "--root", str(work / "store"), "--runroot", str(work / "run")]
        self.start += ["--storage-driver", "overlay", "--cgroup-manager", "cgroupfs", "--events-backend", "file"]
        self.start += ["--runtime", runtime] if runtime else []

    def __call__(self, *arguments: str, checked: bool = True) -> subprocess.CompletedProcess[str]:
        done = run([*self.start, *arguments], env=self.environment)
        if checked and done.returncode:
            raise click.ClickException(f"podman {' '.join(arguments)}: {done.stderr[-3000:]}")
        return done

    def build(self, tag: str, folder: Path, *arguments: str) -> None:
        """Of the Dockerfile there; it shows its output. The docker format, since the other has no HEALTHCHECK."""
        command = ["build", "--isolation", "chroot", "--network", "host", "--pull=never", "--format", "docker"]
        subprocess.run([*self.start, *command, *arguments, "--tag", tag, str(folder)], env=self.environment, check=True)

    def inspect(self, name: str) -> Any:
        return json.loads(self("inspect", name).stdout)[0]

    def code(self, name: str) -> int:
        return int(self.inspect(name)["State"]["ExitCode"])


@contextlib.contextmanager
def running(podman: Podman, name: str, service: Any, image: str, *extra: str) -> Iterator[None]:
    """A service of docker-compose.yml with its own command, removed at the end. `extra` stands before the image."""
    podman("run", "--detach", "--name", name, *flags(service), *extra, image, *service.get("command", []))
    try:
        yield
    except BaseException:
        click.echo(podman("logs", "--tail", "20", name, checked=False).stderr, err=True)
        raise
    finally:
        podman("rm", "--force", name)


def make_python(podman: Podman) -> None:
    """The stand-in for the official image: a minimal Debian with its Python."""
    root = podman.work / "base"
    packages = "python3,python3-venv,ca-certificates,netbase,tzdata"
    subprocess.run(["debootstrap", "--variant=minbase", f"--include={packages}", RELEASE, str(root)], check=True)
    (root / "usr/bin/python").symlink_to("python3")
    for name in ("etc/ssl/certs/ca-certificates.crt", "etc/pip.conf"):  # how this machine reaches the package index
        if Path("/", name).exists():
            shutil.copyfile(Path("/", name), root / name)
    for name in ("var/cache/apt", "var/lib/apt/lists"):
        shutil.rmtree(root / name)
    (root / "Dockerfile").write_text('FROM scratch\nCOPY . /\nCMD ["python3"]\n', encoding="utf-8")
    podman.build(PYTHON, root)
    shutil.rmtree(root)


def make_caddy(podman: Podman, image: str, caddy: Path) -> None:
    """The stand-in for the official image, whose binary may listen below port 1024 and whose folders are these."""
    folder = podman.work / "caddy"
    folder.mkdir()
    shutil.copy(caddy, folder / "caddy")
    (folder / "Dockerfile").write_text(
        f"FROM {PYTHON}\n"
        "RUN apt-get update && apt-get install --yes --no-install-recommends libcap2-bin\n"
        "COPY --chmod=0755 caddy /usr/bin/caddy\n"
        "RUN setcap cap_net_bind_service=+ep /usr/bin/caddy\n"
        "ENV XDG_CONFIG_HOME=/config XDG_DATA_HOME=/data\n"
        'CMD ["caddy", "run", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile"]\n',
        encoding="utf-8",
    )
    podman.build(image, folder)
    shutil.rmtree(folder)


def alone() -> None:
    """Leave the network for one that has its loopback interface and no other."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
        raise click.ClickException(f"no network of its own: {os.strerror(ctypes.get_errno())}")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def cgroup(pid: int, controller: str, *names: str) -> int | None:
    """The first of the files that the control group of the process has."""
    for line in Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers in (controller, ""):
            for name in names:
                file = Path("/sys/fs/cgroup", controllers, path.lstrip("/"), name)
                if file.exists() and file.read_text(encoding="utf-8").strip().isdigit():
                    return int(file.read_text(encoding="utf-8"))
    return None
