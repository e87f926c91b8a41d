"""docker-compose.yml as arguments of `podman run`, for tests/integration/container.py."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import yaml  # type: ignore[import-untyped]  # comes with jsonargparse

ROOT = Path(__file__).parents[2]


def compose() -> Any:
    """docker-compose.yml with its variables, or their defaults."""
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    return yaml.safe_load(re.sub(r"\$\{(\w+):-([^}]*)\}", lambda match: os.environ.get(match[1]) or match[2], text))


# What an engine makes around a container, or what is given in another way below.
ELSEWHERE = {"image", "build", "depends_on", "ports", "restart", "profiles", "deploy", "stop_grace_period"}
ELSEWHERE |= {"command", "healthcheck", "network_mode"}
FLAGS: dict[str, Callable[[Any], list[str]]] = {
    "cap_add": lambda names: [f"--cap-add={each}" for each in names],
    "cap_drop": lambda names: [f"--cap-drop={each}" for each in names],
    "entrypoint": lambda words: [f"--entrypoint={json.dumps(words)}"],
    "environment": lambda values: [f"--env={name}={value}" for name, value in values.items()],
    "init": lambda wanted: [f"--init={wanted}"],
    "mem_limit": lambda size: [f"--memory={size}", f"--memory-swap={size}"],  # no swap, which would hide a breach
    "pids_limit": lambda count: [f"--pids-limit={count}"],
    # Without podman's own tmpfs in three more places, which an engine has not.
    "read_only": lambda wanted: [f"--read-only={wanted}", "--read-only-tmpfs=false"],
    "security_opt": lambda words: [f"--security-opt={each.removesuffix(':true')}" for each in words],
    # With what an engine adds.
    "tmpfs": lambda places: [f"--tmpfs={each}{',' if ':' in each else ':'}noexec,nosuid,nodev" for each in places],
    "user": lambda user: [f"--user={user}"],
    "volumes": lambda volumes: [f"--volume={re.sub('^[.]/', f'{ROOT}/', each)}" for each in volumes],
}


def flags(service: Any) -> list[str]:
    """For `podman run`; what is not understood is an error."""
    given = [f"--network={service.get('network_mode', 'host')}", "--ulimit=host"]
    for name, value in service.items():
        if name in FLAGS:
            given += FLAGS[name](value)
        elif name not in ELSEWHERE:
            raise click.ClickException(f"docker-compose.yml has {name}, which this script does not know")
    return given
