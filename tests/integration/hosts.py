"""Hosts with addresses of their own: network namespaces of this machine, joined by cables."""

import contextlib
import shutil
import subprocess
import sys
import time
import uuid
from pathlib import Path

import psutil
import pytest
from conftest import environment, processes_of, start_job
from test_cluster import START_S

from free_port import free_port


def or_skip(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"network namespaces are refused here: {done.stderr.strip()}")


class Hosts:
    """Network namespaces in which Ray's processes run as on machines of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.python = folder, Path(sys.executable)
        self.marker = uuid.uuid4().hex
        self.names: dict[str, str] = {}
        self.port = free_port()
        self.temp_dir = Path(f"/tmp/xpool-test-{self.marker[:8]}")
        self.raylets: list[subprocess.Popen] = []
        self.hidden: dict[str, Path] = {}
        """Folders in whose place a host sees an empty disk of its own."""
        self.environment = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": uuid.uuid4().hex * 2,
            "TEST_MARKER": self.marker,
            "HOME": str(folder),
        }

    def add(self, host: str) -> None:
        name = f"xpool-{self.marker[:6]}-{host}"
        if shutil.which("ip") is None:
            pytest.skip("network namespaces need iproute2")
        or_skip("ip", "netns", "add", name)
        self.names[host] = name
        self.ip(host, "link", "set", "lo", "up")

    def ip(self, host: str, *arguments: str) -> None:
        subprocess.run(["ip", "-n", self.names[host], *arguments], check=True)

    def join(self, one: str, address: str, other: str, its_address: str) -> None:
        """Lay a cable between two hosts; what they do not know goes through it."""
        ends = [f"x{uuid.uuid4().hex[:8]}" for _ in range(2)]
        or_skip("ip", "link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
        for host, end, own in ((one, ends[0], address), (other, ends[1], its_address)):
            subprocess.run(["ip", "link", "set", end, "netns", self.names[host]], check=True)
            self.ip(host, "addr", "add", f"{own}/24", "dev", end)
            self.ip(host, "link", "set", end, "up")
        self.ip(other, "route", "add", "default", "via", address)

    def within(self, host: str) -> tuple[str, ...]:
        return ("ip", "netns", "exec", self.names[host])

    def start(self, host: str, address: str, *arguments: str) -> None:
        ray = (self.python, "-m", "ray.scripts.scripts", "start", "--block")
        if host in self.hidden:  # `ip netns exec` gives the command a view of the disks of its own
            mount = 'mount -t tmpfs none "$0" && exec "$@"'
            ray = ("sh", "-c", mount, self.hidden[host], *ray)
        self.raylets.append(
            subprocess.Popen(
                [
                    *(*self.within(host), *ray, f"--node-ip-address={address}"),
                    *(*arguments, "--disable-usage-stats"),
                ],
                cwd=self.folder_of(host),
                env=environment(**self.environment),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )

    def folder_of(self, host: str) -> Path:
        """An empty folder, as a node's home is."""
        folder = self.folder / host
        folder.mkdir(exist_ok=True)
        return folder

    def wait_for_nodes(self, host: str, address: str, count: int) -> None:
        count_them = (
            "import ray, sys; ray.init(address=sys.argv[1], logging_level='ERROR'); "
            "print(sum(node['Alive'] for node in ray.nodes()))"
        )
        asked = (sys.executable, "-c", count_them, f"{address}:{self.port}")
        deadline = time.monotonic() + START_S
        while True:
            answer = subprocess.run(
                [*self.within(host), *asked],
                env=environment(**self.environment),
                capture_output=True,
                text=True,
                check=False,
            )
            if answer.stdout.strip() == str(count):
                return
            assert time.monotonic() < deadline, answer.stdout + answer.stderr
            time.sleep(0.5)

    def job(self, host: str, address: str, *arguments: str) -> subprocess.Popen:
        return start_job(
            *arguments,
            within=self.within(host),
            **self.environment,
            RAY_ADDRESS=f"{address}:{self.port}",
        )

    def running(self, words: str) -> set[str]:
        """The hosts on which a process with these words in its command runs."""
        networks = {Path("/run/netns", name).stat().st_ino: k for k, name in self.names.items()}
        found = set()
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.NoSuchProcess, FileNotFoundError):
                if words in " ".join(process.cmdline()):
                    network = Path(f"/proc/{process.pid}/ns/net").stat().st_ino
                    found.add(networks.get(network))
        return found - {None}

    def stop(self) -> None:
        for process in processes_of(self.marker):
            process.kill()
        for raylet in self.raylets:
            raylet.wait(timeout=60)
        for name in self.names.values():
            subprocess.run(["ip", "netns", "del", name], check=True)


def start_ray(
    hosts: Hosts,
    head: str,
    address: str,
    cpus: int,
    others: dict[str, str],
    *,
    head_options: tuple[str, ...] = ("--include-dashboard=false",),
    options: tuple[str, ...] = (),
) -> None:
    hosts.start(
        head,
        address,
        *("--head", f"--port={hosts.port}", f"--num-cpus={cpus}", *head_options),
        f"--temp-dir={hosts.temp_dir}",
    )
    hosts.wait_for_nodes(head, address, 1)
    for count, (host, own) in enumerate(others.items(), start=2):
        hosts.start(host, own, f"--address={address}:{hosts.port}", "--num-cpus=1", *options)
        hosts.wait_for_nodes(head, address, count)
