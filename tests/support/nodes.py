"""Several Ray nodes on one machine, each with a network of its own, for tests that break them.

Where the user may make network namespaces (root, iproute2), every node lives in one: it has its own address on a bridge
of this machine, its own folder on a small file system of its own, and its own environment, so that it can be cut off,
filled up and killed as a machine can. Elsewhere nodes are separate raylets on one address: processes can be killed, but
no network can be cut and no disk filled. Nodes have token authentication, few logical CPUs, a small object store, and
health checks that notice a lost node within some 10 to 20 s.

Everything that is made has the number of this process in its name, and only that is removed.
"""

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.support.images import REPOSITORY
from tests.support.network import Network, NodesUnavailableError, ip
from tests.support.s3 import free_port

PORT = 6379
NODES, CPUS = 3, 3
OBJECT_STORE_BYTES = 200_000_000
DISK = "256m"
START_SECONDS = 120

# A node that says nothing is given up after 4 x (2 + 3) s; by Ray's own figures after 5 x (3 + 10) s.
HEALTH = {
    "RAY_health_check_initial_delay_ms": "2000",
    "RAY_health_check_period_ms": "2000",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_health_check_failure_threshold": "4",
}


def wait_for(condition: Callable[[], object], seconds: float, what: str, every: float = 0.2) -> None:
    """Wait until something is so. Raises TimeoutError naming it."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:g} s: {what}")
        time.sleep(every)


@dataclass
class Node:
    """One Ray node. `namespace` is None where it shares the machine's network."""

    number: int
    folder: Path
    namespace: str | None
    address: str
    environment: dict[str, str] = field(repr=False)
    cpus: int
    process: "subprocess.Popen[bytes] | None" = None
    hurt: bool = False
    """Something was done to it that `Cluster.restore` is to mend."""
    extra: bool = False
    """It joined later, and `Cluster.restore` takes it away."""

    @property
    def disk(self) -> Path:
        """The folder that is the node's disk: Ray's sessions and spilled objects, and temporary files."""
        return self.folder / "disk"

    def command(self, *command: str) -> list[str]:
        """A command as it is run on this node."""
        return ["ip", "netns", "exec", self.namespace, *command] if self.namespace else list(command)

    def start(self, *role: str) -> None:
        """Start Ray, with the options of `ray start` that make it the head or let it join one; wait until it runs."""
        (self.disk / "tmp").mkdir(parents=True, exist_ok=True)
        log = self.folder / "ray-start.log"
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                self.command(
                    *(str(Path(sys.executable).with_name("ray")), "start", *role, "--block"),
                    *("--node-ip-address", self.address, "--num-cpus", str(self.cpus)),
                    *("--object-store-memory", str(OBJECT_STORE_BYTES), "--temp-dir", str(self.disk / "ray")),
                ),
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_for(
            lambda: b"Ray runtime started" in log.read_bytes() or self.ended,
            START_SECONDS,
            f"start of node {self.number}",
        )
        if self.ended:
            raise RuntimeError(f"node {self.number} did not start: {log.read_text()[-3000:]}")

    @property
    def ended(self) -> bool:
        """Whether its `ray start --block` has ended, as it does when its raylet has."""
        return self.process is None or self.process.poll() is not None

    def processes(self, *names: str) -> list[psutil.Process]:
        """Its processes, those alone whose command line holds one of the names, where any is given."""
        found = []
        for process in psutil.process_iter():
            try:
                if self._owns(process) and (not names or any(name in " ".join(process.cmdline()) for name in names)):
                    found.append(process)
            except (psutil.Error, OSError):
                continue  # ended meanwhile
        return found

    def _owns(self, process: psutil.Process) -> bool:
        if self.namespace:
            return Path(f"/proc/{process.pid}/ns/net").samefile(f"/run/netns/{self.namespace}")
        return self.process is not None and os.getsid(process.pid) == self.process.pid

    def kill(self, *names: str) -> list[str]:
        """SIGKILL to its processes with one of these names; returns their command lines."""
        killed = []
        for process in self.processes(*names):
            try:
                killed.append(" ".join(process.cmdline()))
                process.kill()
            except psutil.Error:
                continue
        return killed

    def cut(self) -> None:
        """Take the node off the network: what is sent to it and by it is lost without a word."""
        self._link("down")

    def heal(self) -> None:
        """Bring the node back on the network."""
        self._link("up")

    def _link(self, state: str) -> None:
        if self.namespace is None:
            raise NodesUnavailableError("the network of a node can only be cut where it has a namespace of its own")
        ip("link", "set", self.namespace, state)

    def mount_disk(self) -> None:
        """Give the node a small disk of its own. Raises NodesUnavailableError where that may not be done."""
        self.disk.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(self.disk)], capture_output=True, text=True
        )
        if done.returncode:
            raise NodesUnavailableError(f"no disk of its own for a node: {done.stderr.strip()}")

    def fill_disk(self) -> None:
        """Fill the node's disk to the last byte."""
        if not self.disk.is_mount():
            raise NodesUnavailableError("only a disk of its own can be filled")
        with (self.disk / "filling").open("wb", buffering=0) as file:
            try:
                while file.write(bytes(2**20)):
                    pass
            except OSError:
                return

    def free_disk(self) -> None:
        """Undo `fill_disk`."""
        (self.disk / "filling").unlink(missing_ok=True)

    def stop(self) -> None:
        """Kill whatever runs on the node, until nothing does."""
        if self.process is None:
            return
        wait_for(lambda: not self._kill_all(), 30, f"end of node {self.number}", every=0.05)
        self.process.wait()
        self.process = None
        shutil.rmtree(self.disk / "ray", ignore_errors=True)

    def _kill_all(self) -> list[psutil.Process]:
        alive = [process for process in self.processes() if process.status() != psutil.STATUS_ZOMBIE]
        for process in alive:
            with suppress(psutil.Error):
                process.kill()
        if self.process is not None:
            self.process.poll()
        return alive


class Cluster:
    """Ray nodes; the first is the head, and does what all others do too."""

    def __init__(self, *, namespaces: bool = True, cpus: int = CPUS) -> None:
        # Sockets lie in it, whose paths have at most 107 characters: pytest's own folders are too deep.
        self.network = Network() if namespaces else None
        if self.network:
            self.network.start()
        self.folder, self.cpus = Path(tempfile.mkdtemp(prefix="ray")), cpus
        self.nodes: list[Node] = []
        self._port = PORT if namespaces else free_port()
        self._variables: dict[str, str] = {}
        token = self.folder / "token"
        token.write_text(secrets.token_hex(32))
        token.chmod(0o600)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "AWS_"))}
        self._environment = {
            **inherited,
            **HEALTH,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_worker_niceness": "0",  # not 15: workers would wait for all else that this machine does
            "RAY_USAGE_STATS_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
            "PYTHONUNBUFFERED": "1",
        }

    @property
    def head(self) -> Node:
        """The node that holds the cluster's own state, and on which drivers run."""
        return self.nodes[0]

    @property
    def host(self) -> str:
        """The address by which the nodes reach this machine."""
        return self.network.host if self.network else "127.0.0.1"

    def set_variables(self, variables: dict[str, str]) -> None:
        """Add variables to the environment of nodes and drivers that are started from now on."""
        self._variables |= variables

    def start(self, nodes: int = NODES) -> None:
        """Start so many nodes. Raises NodesUnavailableError where this machine cannot."""
        for _ in range(nodes):
            self.add_node()

    @property
    def address(self) -> str:
        """The address of the cluster, for drivers and for nodes that join."""
        return f"{self.head.address}:{self._port}"

    def _start(self, node: Node) -> None:
        if node is self.head:
            node.start("--head", "--port", str(self._port), "--include-dashboard", "false")
        else:
            node.start("--address", self.address)

    def add_node(self) -> Node:
        """Start one more node."""
        number = max((node.number for node in self.nodes), default=-1) + 1
        folder = self.folder / f"n{number}"
        if self.network:
            namespace, address = self.network.add(number)
        else:
            namespace, address = None, "127.0.0.1"
        node = Node(number, folder, namespace, address, {}, self.cpus)
        own = {"TMPDIR": str(node.disk / "tmp")}
        if namespace:
            own["GLOO_SOCKET_IFNAME"] = "eth0"  # else torch takes the address of the host's name, which is all nodes'
            node.mount_disk()
        node.environment = {**self._environment, **self._variables, **own}
        self.nodes.append(node)
        self._start(node)
        return node

    def restore(self) -> None:
        """Mend what was broken: nodes that were hurt are started anew, and nodes that joined are taken away."""
        for node in [node for node in self.nodes if node.extra]:
            self._remove(node)
        for node in self.nodes:
            if node.hurt or node.ended:
                node.stop()
                if node.namespace:
                    node.heal()
                    node.free_disk()
                self._start(node)
                node.hurt = False

    def run(self, *command: str, output: Path) -> "subprocess.Popen[bytes]":
        """Start a command on the head as a driver of the cluster; what it prints goes into a file."""
        environment = {**self.head.environment, "RAY_ADDRESS": self.address}
        with output.open("ab") as file:
            return subprocess.Popen(
                self.head.command(*command),
                env=environment,
                cwd=REPOSITORY,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def stop(self) -> None:
        """Kill all nodes, and remove their disks and networks."""
        for node in reversed(self.nodes):
            self._remove(node)
        if self.network:
            self.network.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _remove(self, node: Node) -> None:
        node.stop()
        if node.disk.is_mount():
            subprocess.run(["umount", "--lazy", str(node.disk)], check=True)
        if self.network and node.namespace:
            self.network.remove(node.namespace)
        self.nodes = [other for other in self.nodes if other is not node]
