"""What Linux tells of running servers (processes, CPU time, memory), and how to end them."""

import os
import re
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


def process_tree(root: int) -> list[int]:
    """The pids of a process and its descendants."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = Path(f"/proc/{entry}/stat").read_text()
            except OSError:
                continue
            parent = int(stat.rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry))
    tree, queue = [], [root]
    while queue:
        pid = queue.pop()
        tree.append(pid)
        queue += children.get(pid, [])
    return tree


def cpu_seconds(root: int) -> float:
    """User and system time of a process tree, with that of children it has reaped."""
    ticks = 0
    for pid in process_tree(root):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += sum(int(value) for value in fields[11:15])
    return ticks / TICK


def memory_kb(root: int) -> dict[str, int]:
    """Summed RSS and PSS (shared pages divided among their users) of a process tree."""
    total = {"rss": 0, "pss": 0, "processes": 0}
    for pid in process_tree(root):
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        for kind in ("rss", "pss"):
            found = re.search(rf"^{kind}:\s+(\d+)", text, re.M | re.I)
            total[kind] += int(found[1]) if found else 0
        total["processes"] += 1
    return total


def forget_peak(root: int) -> None:
    """Let the peak of the resident set (VmHWM) of a process tree begin anew."""
    for pid in process_tree(root):
        try:
            Path(f"/proc/{pid}/clear_refs").write_text("5")
        except OSError:
            continue


def peak_kb(root: int) -> int:
    """The summed peaks of the resident sets (VmHWM) of a process tree."""
    total = 0
    for pid in process_tree(root):
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            continue
        found = re.search(r"^VmHWM:\s+(\d+)", status, re.M)
        total += int(found[1]) if found else 0
    return total


def settle(root: int, quiet_s: float = 0.3, limit_s: float = 30.0) -> None:
    """Wait until a server has finished what it still does after the last reply."""
    deadline = time.monotonic() + limit_s
    last = cpu_seconds(root)
    while time.monotonic() < deadline:
        time.sleep(quiet_s)
        now = cpu_seconds(root)
        if now - last < 0.02 * quiet_s + 1.01 / TICK:
            return
        last = now


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for_banner(port: int, process: subprocess.Popen, limit_s: float = 30.0) -> None:
    """Wait until a server greets; raise RuntimeError when it ends instead, or never does."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server exited with {process.returncode}")
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
                if connection.recv(512).startswith(b"220"):
                    connection.sendall(b"QUIT\r\n")
                    connection.recv(512)
                    return
        except OSError:
            pass
        time.sleep(0.1)
    raise RuntimeError("the server did not start in time")


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _send_signal(pids: list[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


@dataclass
class Running:
    """A server that was started, and where it listens."""

    process: subprocess.Popen
    port: int

    def stop(self) -> None:
        """End the whole tree: some servers (Postfix) stay when their parent is ended."""
        tree = process_tree(self.process.pid)
        _send_signal(tree, signal.SIGTERM)
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            self.process.poll()
            tree = [pid for pid in tree if _is_alive(pid)]
            if not tree:
                break
            time.sleep(0.1)
        _send_signal(tree, signal.SIGKILL)
        self.process.wait()
