"""The container files, built and run: the image, its service and its limits, and replicas behind the proxy.

    python tests/integration/container.py [--torch-index URL] [--runtime NAME] [--work FOLDER] [--keep]
    python tests/integration/container.py --caddy FILE [...]

Needs Linux, root, podman with catatonit, `ip`, curl, and 35 GB in FOLDER. It is no part of the tests, since a build
takes minutes. Exits with 1 if a claim does not hold.

podman is given what docker-compose.yml says of each service. Everything but the builds happens in a network of its own
that has nothing but its loopback interface, so the ports, networks and names that an engine makes are not tried.
`--caddy FILE` is for machines that reach no registry of images: debootstrap makes a stand-in for the official image of
Python out of Debian's packages, and FILE, a static binary, one for that of Caddy. Where torch's own index cannot be
reached either, `--torch-index https://pypi.org/simple` takes the large build for CUDA.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import http.client
import io
import json
import os
import random
import re
import shutil
import ssl
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import yaml  # type: ignore[import-untyped]  # comes with jsonargparse
from PIL import Image

ROOT = Path(__file__).parents[2]
RELEASE = "bookworm"  # the Debian with Python 3.11
PYTHON = "docker.io/library/python:3.11-slim"
SERVICE = "http://127.0.0.1:8000"
PROXY = "https://localhost"
PATIENCE = 300  # seconds; a busy machine starts slowly
CLONE_NEWNET = 0x40000000

failures: list[str] = []


def claim(what: str, holds: bool, seen: object = "") -> None:
    """One line of the report."""
    click.echo(f"{'ok  ' if holds else 'FAIL'} {what}{f': {seen}' if str(seen) else ''}")
    if not holds:
        failures.append(what)


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


def ask(url: str, body: bytes | None = None, *, key: str = "", tls: ssl.SSLContext | None = None) -> tuple[int, bytes]:
    """The answer to one request; status 0 if the connection ends without one."""
    address = urlsplit(url)
    host = address.hostname or ""
    connection: http.client.HTTPConnection
    if address.scheme == "https":
        connection = http.client.HTTPSConnection(host, timeout=PATIENCE, context=tls)
    else:
        connection = http.client.HTTPConnection(host, address.port, timeout=PATIENCE)
    headers = {"Content-Type": "image/png", **({"X-API-Key": key} if key else {})}
    try:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # some answer before they have the whole body
            connection.request("GET" if body is None else "POST", address.path, body, headers)
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


def ready(service: str, tls: ssl.SSLContext | None = None) -> bool:
    return ask(f"{service}/readyz", tls=tls)[0] == 200


def wait_for(holds: Callable[[], bool]) -> float:
    """Seconds until it holds."""
    began = time.monotonic()
    while not holds():
        if time.monotonic() - began > PATIENCE:
            raise click.ClickException("something did not begin in time")
        time.sleep(0.5)
    return time.monotonic() - began


def picture(width: int, height: int, *, noise: bool = False, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    if noise:
        drawn = Image.frombytes("RGB", (width, height), random.Random(1).randbytes(width * height * 3))
    else:
        drawn = Image.linear_gradient("L").resize((width, height)).convert("RGB")
    drawn.save(file, kind)
    return file.getvalue()


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


def check_image(podman: Podman, image: str, service: Any) -> None:
    inspected = podman.inspect(image)
    configured = inspected["Config"]
    test = inspected.get("Healthcheck", configured.get("Healthcheck", {})).get("Test")
    claim("the image runs as 10001", configured["User"] == "10001:10001", configured["User"])
    claim("its health check is that of docker-compose.yml", test == service["healthcheck"]["test"])
    history = json.loads(podman("history", "--format", "json", image).stdout)
    sizes = [f"{each['size'] / 1e6:.0f}" for each in history if each["size"] > 100_000]
    click.echo(f"     its layers have {', '.join(sizes)} MB, the newest first")
    look = "for each in gcc cc make ld git; do command -v $each && exit 1; done; find / -xdev -ipath '*/.cache/pip*'; "
    look += "find / -xdev -name '*.whl' -not -path '/usr/share/python-wheels/*'; ls -d /source 2>/dev/null; "
    look += "find / -xdev -type f -user 10001"
    found = podman("run", "--rm", "--network=none", "--ulimit=host", "--user=0", "--entrypoint=sh", image, "-c", look)
    claim("no compiler, wheel, cache or source folder, and no file of user 10001", found.stdout == "", found.stdout)


def check_key(podman: Podman, image: str, service: Any) -> str:
    """The service `key`, twice; the key."""
    bare = podman("run", "--rm", "--network=none", "--ulimit=host", image, checked=False)
    refused = bare.returncode == 1 and "can be reached from other machines" in bare.stderr
    claim("without keys it refuses to listen", refused, f"exit code {bare.returncode}")
    made = []
    for name in ("key-1", "key-2"):
        with running(podman, name, service, image):
            podman("wait", name)
            claim(f"the service key ends ({name})", podman.code(name) == 0, f"exit code {podman.code(name)}")
            made.append(podman("logs", name).stderr.split())
    claim("it makes a key once", bool(made[0]) and not made[1])
    return made[0][-1] if made[0] else ""


def check_service(podman: Podman, image: str, service: Any, key: str) -> None:
    small = picture(320, 240)
    with running(podman, "captioner", service, image):
        seconds = wait_for(lambda: ready(SERVICE))
        click.echo(f"     it is ready after {seconds:.0f} seconds")
        healthy = podman("exec", "captioner", *service["healthcheck"]["test"][1:], checked=False)
        claim("its health check passes", healthy.returncode == 0, healthy.stderr[-300:])
        status, _ = ask(f"{SERVICE}/v1/captions", small)
        claim("no caption without a key", status == 401, status)
        status, body = ask(f"{SERVICE}/v1/captions", small, key=key)
        claim("a caption with the key", status == 200 and bool(json.loads(body)["captions"][0]["caption"]), body[:90])

        pid = int(podman.inspect("captioner")["State"]["Pid"])
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
        state = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        ids = {*state["Uid"].split(), *state["Gid"].split()}
        claim("its user and group are 10001", ids == {"10001"}, ids)
        sets = {state[name] for name in ("CapEff", "CapPrm", "CapBnd")}
        bound = {state["NoNewPrivs"], *sets} == {"1", "0" * 16}
        claim("no capability, and none to be had", bound)
        look = "for each in / /opt/captioner /keys /run /var/tmp /etc /home /tmp; do"
        look += " touch $each/x 2>/dev/null && rm $each/x && echo $each; done"
        written = podman("exec", "captioner", "sh", "-c", look).stdout.split()
        claim("only /tmp can be written", written == ["/tmp"], written)
        load(podman, service, key, pid)
        changed = podman("diff", "captioner").stdout.split("\n")
        # Mount points count as changes.
        changed = [line for line in changed if line and line[0] != "C" and line[2:] not in ("/tmp", "/keys")]
        claim("nothing was written elsewhere", not [line for line in changed if not mounted(line[2:])], changed)

        began = time.monotonic()
        grace = service["stop_grace_period"].removesuffix("s")
        podman("stop", "--time", grace, "captioner")
        took = time.monotonic() - began
        claim("SIGTERM ends it with 0", podman.code("captioner") == 0 and took < float(grace), f"{took:.1f} seconds")


def mounted(path: str) -> bool:
    """Whether podman itself makes this file, to mount something there."""
    return path.startswith(("/etc/", "/run", "/dev", "/proc", "/sys"))


def load(podman: Podman, service: Any, key: str, pid: int) -> None:
    """32 clients at once with the largest pictures that are taken, and a model that is replaced meanwhile."""
    pictures = [picture(7070, 7070), picture(2600, 2600, noise=True, kind="BMP")]  # 50 megapixels; 20 MiB
    statuses: Counter[int] = Counter()
    most = 0
    ended = threading.Event()

    def client(number: int) -> None:
        for each in range(2):
            statuses[ask(f"{SERVICE}/v1/captions", pictures[(number + each) % 2], key=key)[0]] += 1

    def watch() -> None:
        nonlocal most
        while not ended.wait(0.1):
            most = max(most, cgroup(pid, "pids", "pids.current") or 0)

    threads = [threading.Thread(target=client, args=[number]) for number in range(32)]
    watcher = threading.Thread(target=watch)
    watcher.start()
    for thread in threads:
        thread.start()
    time.sleep(3)
    podman("kill", "--signal", "HUP", "captioner")
    for thread in threads:
        thread.join()
    wait_for(lambda: ready(SERVICE))
    status, _ = ask(f"{SERVICE}/v1/captions", picture(320, 240), key=key)
    ended.set()
    watcher.join()
    good = statuses.keys() <= {200, 503} and status == 200
    claim("64 requests of 50 megapixels or 20 MiB, and a reload: 200 or 503", good, dict(statuses))
    inspected = podman.inspect("captioner")
    peak = cgroup(pid, "memory", "memory.max_usage_in_bytes", "memory.peak") or 0
    limit = cgroup(pid, "memory", "memory.limit_in_bytes", "memory.max") or 0
    alive = not inspected["State"]["OOMKilled"] and inspected["State"]["Running"]
    seen = f"{peak / 2**30:.1f} of {limit / 2**30:.0f} GiB"
    claim(f"within {service['mem_limit']} of memory", alive and 0 < peak < limit, seen)
    bound = cgroup(pid, "pids", "pids.max") or 0
    claim("within its threads and processes", bound == service["pids_limit"] and 0 < most < bound, f"{most} of {bound}")


def check_proxy(podman: Podman, image: str, caddy: str, services: Any, key: str) -> None:
    """Two replicas and the proxy. They share one loopback interface, so each replica has an address of its own."""
    replica = services["replica"]
    addresses = ["127.0.0.2", "127.0.0.3"]
    with contextlib.ExitStack() as stack:
        for number, address in enumerate(addresses):
            command = [address if word == "0.0.0.0" else word for word in replica["command"]]
            stack.enter_context(running(podman, f"replica-{number}", {**replica, "command": command}, image))
        for address in addresses:
            wait_for(functools.partial(ready, f"http://{address}:8000"))
        names = [f"--add-host=replica:{address}" for address in addresses]
        stack.enter_context(running(podman, "proxy", services["proxy"], caddy, *names))
        path = "/data/caddy/pki/authorities/local/root.crt"
        wait_for(lambda: podman("exec", "proxy", "cat", path, checked=False).returncode == 0)
        tls = ssl.create_default_context(cadata=podman("exec", "proxy", "cat", path).stdout)
        wait_for(lambda: ready(PROXY, tls))
        claim("the proxy answers over TLS, with a certificate of its own authority", True)
        status, _ = ask("http://localhost/")
        claim("without TLS it sends on to it", status == 308, status)
        small = picture(320, 240)
        status, _ = ask(f"{PROXY}/v1/captions", small, tls=tls)
        claim("no caption without a key", status == 401, status)

        def captions(count: int) -> Counter[int]:
            given: Counter[int] = Counter()

            def client() -> None:
                given[ask(f"{PROXY}/v1/captions", small, key=key, tls=tls)[0]] += 1

            threads = [threading.Thread(target=client) for _ in range(count)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return given

        def share() -> list[int]:
            return [podman("logs", f"replica-{number}").stderr.count("/v1/captions") for number in range(2)]

        before = share()
        given = captions(16)
        shares = [now - then for now, then in zip(share(), before, strict=True)]
        claim("captions over TLS, by both replicas", given == {200: 16} and min(shares) > 0, f"{dict(given)}, {shares}")
        before = share()
        large = podman.work / "large"
        large.write_bytes(os.urandom(32 * 2**20 + 1))
        # By curl, which reads while it sends.
        curl = ["curl", "--silent", "--insecure", "--output", os.devnull, "--write-out", "%{http_code}"]
        curl += ["--header", f"X-API-Key: {key}", "--header", "Content-Type: image/png", "--data-binary", f"@{large}"]
        answer = run([*curl, f"{PROXY}/v1/captions"]).stdout
        saw = sum(share()) - sum(before)
        claim("a body above the limit is refused", answer == "413", f"{answer}, replicas logged {saw}")
        fits = picture(2600, 2600, noise=True, kind="BMP")
        status, _ = ask(f"{PROXY}/v1/captions", fits, key=key, tls=tls)
        claim("a picture of 20 MiB passes", status == 200, status)
        podman("stop", "--time", "45", "replica-0")
        claim("a replica ends with 0", podman.code("replica-0") == 0)
        given = captions(8)
        claim("the other one answers for it", given == {200: 8}, dict(given))
        podman("stop", "--time", "50", "proxy")
        claim("the proxy ends with 0", podman.code("proxy") == 0, podman.code("proxy"))


@click.command(help=__doc__)
@click.option("--caddy", type=click.Path(path_type=Path, exists=True), help="Make the base images, with this Caddy.")
@click.option("--torch-index", help="For TORCH_INDEX of the Dockerfile.")
@click.option("--runtime", help="The OCI runtime, if podman's choice does not work.")
@click.option("--work", type=click.Path(path_type=Path), default=Path(tempfile.gettempdir(), "captioner-container"))
@click.option("--keep", is_flag=True, help="Keep FOLDER and its images for the next time.")
def main(caddy: Path | None, torch_index: str | None, runtime: str | None, work: Path, keep: bool) -> None:
    work.mkdir(parents=True, exist_ok=True)
    podman = Podman(work, runtime)
    services = compose()["services"]
    image, proxy = services["captioner"]["image"], f"docker.io/library/{services['proxy']['image']}"
    make: dict[str, Callable[[], object]] = {
        PYTHON: lambda: podman("pull", PYTHON) if caddy is None else make_python(podman),
        proxy: lambda: podman("pull", proxy) if caddy is None else make_caddy(podman, proxy, caddy),
        image: lambda: podman.build(image, ROOT, *([f"--build-arg=TORCH_INDEX={torch_index}"] if torch_index else [])),
    }
    try:
        for name, make_it in make.items():
            if podman("image", "exists", name, checked=False).returncode:
                make_it()
        podman("volume", "rm", "--all", "--force")  # nobody knows the keys of an earlier run
        alone()
        check_image(podman, image, services["captioner"])
        key = check_key(podman, image, services["key"])
        check_service(podman, image, services["captioner"], key)
        check_proxy(podman, image, proxy, services, key)
    finally:
        podman("volume", "rm", "--all", "--force", checked=False)
        if not keep:
            podman("rmi", "--all", "--force", checked=False)
            shutil.rmtree(work)
    if failures:
        raise SystemExit(f"{len(failures)} of the claims do not hold")


if __name__ == "__main__":
    main()
