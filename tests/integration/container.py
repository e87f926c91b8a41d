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
import functools
import http.client
import io
import json
import os
import random
import shutil
import ssl
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
from PIL import Image

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.integration.compose_file import compose  # noqa: E402
from tests.integration.podman import (  # noqa: E402
    PYTHON,
    Podman,
    alone,
    cgroup,
    make_caddy,
    make_python,
    run,
    running,
)

SERVICE = "http://127.0.0.1:8000"
PROXY = "https://localhost"
PATIENCE = 300  # seconds; a busy machine starts slowly

failures: list[str] = []


def claim(what: str, holds: bool, seen: object = "") -> None:
    """One line of the report."""
    click.echo(f"{'ok  ' if holds else 'FAIL'} {what}{f': {seen}' if str(seen) else ''}")
    if not holds:
        failures.append(what)


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
        anyone = ssl.create_default_context()  # that it answers is one thing, and who it is another
        anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
        wait_for(lambda: ready(PROXY, anyone))
        claim("the proxy answers over TLS, with a certificate of its own authority", ready(PROXY, tls))
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
