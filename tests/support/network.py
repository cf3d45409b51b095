"""Network namespaces of this machine that stand for the machines of a cluster: a bridge, and an address for each."""

import os
import shutil
import subprocess


class NodesUnavailableError(Exception):
    """Why this machine cannot run what was asked for."""


def ip(*arguments: str) -> None:
    """One command of iproute2. Raises NodesUnavailableError with its words where it fails."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise NodesUnavailableError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


class Network:
    """A bridge of this machine, with an address by which the nodes reach it."""

    def __init__(self) -> None:
        pid = os.getpid()
        self.prefix = f"10.{128 + pid // 250 % 120}.{1 + pid % 250}"
        self.name, self.bridge = f"sq{pid}", f"sq{pid}b"
        self.host = f"{self.prefix}.1"

    def start(self) -> None:
        """Make the bridge. Raises NodesUnavailableError where the user may not."""
        if shutil.which("ip") is None:
            raise NodesUnavailableError("no network namespaces: iproute2 is not installed")
        if os.geteuid() != 0:
            raise NodesUnavailableError("no network namespaces: only root may make them")
        ip("link", "add", self.bridge, "type", "bridge")
        ip("address", "add", f"{self.host}/24", "dev", self.bridge)
        ip("link", "set", self.bridge, "up")

    def add(self, number: int) -> tuple[str, str]:
        """A namespace with an address on the bridge; returns both."""
        name, address = f"{self.name}n{number}", f"{self.prefix}.{10 + number}"
        ip("netns", "add", name)
        ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
        ip("link", "set", name, "master", self.bridge, "up")
        for command in (f"address add {address}/24 dev eth0", "link set eth0 up", "link set lo up"):
            ip("-n", name, *command.split())
        return name, address

    def remove(self, namespace: str) -> None:
        """Remove a namespace, in which nothing runs any more, with its link."""
        subprocess.run(["ip", "link", "delete", namespace], capture_output=True)
        subprocess.run(["ip", "netns", "delete", namespace], capture_output=True)

    def stop(self) -> None:
        """Remove the bridge."""
        subprocess.run(["ip", "link", "delete", self.bridge], capture_output=True)
