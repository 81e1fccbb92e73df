"""
Run the items over the servers and keep the figures.

The items run round-robin over the servers, so that a slow spell of the machine hits them all.
"""

import argparse
import fcntl
import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from crowd import crowd_once
from fairness import fair_once
from limits import openssl_speed, time_openssl
from loads import Item
from memory import weigh_idle_connections, weigh_messages
from processes import Running, cpu_seconds, settle
from relaying import relay_once
from servers import Server
from stage import Stage
from tables import make_tables

RECORDED_SETTINGS = [
    "items",
    "peers",
    "repeats",
    "seconds",
    "warmup",
    "relay_messages",
    "relay_repeats",
    "relay_concurrency",
    "idle_repeats",
    "idle_connections",
    "server_cpu",
    "load_cpu",
]


@contextmanager
def exclusive(lock_path: str | None) -> Iterator[None]:
    """Hold the machine-wide benchmark lock, compatible with flock(1)."""
    if lock_path is None:
        yield
        return
    with open(lock_path, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class Bench:
    """One run of the measurements; its results are saved after every item."""

    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.stage = Stage(options)
        self.results = self.earlier_results()
        self.results["settings"] = {name: getattr(options, name) for name in RECORDED_SETTINGS}

    def earlier_results(self) -> dict:
        """--add: what results.json holds, except for the items that are measured now."""
        path = self.options.out / "results.json"
        if not (self.options.add and path.exists()):
            return {"runs": []}
        now = self.options.items.split(",")
        results = json.loads(path.read_text())
        results["runs"] = [
            run for run in results["runs"] if run["item"].partition("-")[0] not in now
        ]
        return results

    # -- rows that smtpload alone measures

    def run_items(self, servers: list[Server], items: list[Item]) -> None:
        """Measure the items that can share one set of running servers."""
        for cert_kind in ("rsa", "ecdsa"):
            chosen = [item for item in items if item.cert == cert_kind]
            with ExitStack() as stack:
                running: list[tuple[Server, Running]] = []
                for server in servers:
                    if any(server.takes(item) for item in chosen):
                        process = self.stage.start(server, cert_kind)
                        stack.callback(process.stop)
                        running.append((server, process))
                stack.enter_context(exclusive(self.options.lock))
                for item in chosen:
                    self.run_item([pair for pair in running if pair[0].takes(item)], item)
            for item in chosen:
                self.run_memory(servers, item)

    def run_item(self, running: list[tuple[Server, Running]], item: Item) -> None:
        """Measure one item on every server, round-robin."""
        counts: dict[str, int] = {}
        for server, process in running:
            try:
                counts[server.name] = self.calibrate(process, item)
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                print(f"{item.key} {server.name}: left out: {error}", flush=True)
        for repeat in range(self.options.repeats):
            for server, process in running:
                if server.name in counts:
                    result = self.measure(server, process, item, counts[server.name])
                    self.results["runs"].append({**result, "repeat": repeat})
        self.save()

    def calibrate(self, running: Running, item: Item) -> int:
        """Warm the server up (JIT compilers need seconds) and choose a count of units that
        keeps it busy for the wanted time."""
        if item.fixed_count:
            return item.fixed_count
        count, spent = item.first_guess, 0.0
        while True:
            result = self.stage.load(running.port, item.args, count)
            rate = count / result["elapsed_s"]
            spent += result["elapsed_s"]
            if spent >= self.options.warmup:
                break
            count = max(item.first_guess, int(rate * self.options.warmup / 3))
        settle(running.process.pid)
        return max(item.least, int(rate * self.options.seconds))

    def measure(self, server: Server, running: Running, item: Item, count: int) -> dict:
        """One timed run."""
        pid = running.process.pid
        before = cpu_seconds(pid)
        result = self.stage.load(running.port, item.args, count)
        settle(pid)
        cpu = round(cpu_seconds(pid) - before, 3)
        units = result["handshakes"] if item.unit == "handshakes" else result["accepted"]
        result.update(
            item=item.key,
            server=server.name,
            count=count,
            server_cpu_s=cpu,
            cpu_s_per_1000=cpu / units * 1000 if units else None,
            units_per_s=units / result["elapsed_s"],
        )
        print(
            f"{item.key:3} {server.name:24} {result['units_per_s']:9.1f}/s "
            f"{result['mb_per_s']:8.1f} MB/s cpu/1000 {result['cpu_s_per_1000'] or 0:.4f} s "
            f"errors {result['errors']}",
            flush=True,
        )
        return result

    # -- the other rows

    def run_memory(self, servers: list[Server], item: Item) -> None:
        """The memory of large messages under way, where the item asks for it."""
        if not item.memory_connections:
            return
        with exclusive(self.options.lock):
            for server in servers:
                if server.takes(item):
                    self.results["runs"].append(weigh_messages(self.stage, server, item))
        self.save()

    def run_idle(self, servers: list[Server]) -> None:
        """Row 6: the memory of idle STARTTLS connections."""
        count = self.options.idle_connections
        for _ in range(self.options.idle_repeats):
            with exclusive(self.options.lock):
                for server in servers:
                    if server.forgets:
                        result = weigh_idle_connections(self.stage, server, count)
                        self.results["runs"].append(result)
            self.save()

    def run_relay(self, servers: list[Server]) -> None:
        """Row 7: accept, own, deliver over STARTTLS."""
        for repeat in range(self.options.relay_repeats):
            with exclusive(self.options.lock):
                for server in servers:
                    self.results["runs"].append(relay_once(self.stage, server, repeat))
            self.save()

    def run_fair(self) -> None:
        """Item fair: one destination beside two that are slow and dead."""
        for repeat in range(self.options.relay_repeats):
            with exclusive(self.options.lock):
                self.results["runs"].append(fair_once(self.stage, repeat))
            self.save()

    def run_crowd(self, servers: list[Server]) -> None:
        """Row 9: a hundred connections beside 900 slow ones."""
        for repeat in range(self.options.idle_repeats):
            with exclusive(self.options.lock):
                for server in servers:
                    self.results["runs"].append(crowd_once(self.stage, server, repeat))
            self.save()

    def run_openssl(self) -> None:
        """What OpenSSL alone reaches on the servers' CPU."""
        with exclusive(self.options.lock):
            for kind in ("rsa", "ecdsa"):
                for _ in range(self.options.repeats):
                    self.results["runs"].append(time_openssl(self.stage, kind))
            self.results["openssl_speed"] = openssl_speed(self.stage)
        self.save()

    # -- output

    def save(self) -> None:
        """Write results.json and RESULTS.md."""
        out = self.options.out
        out.mkdir(parents=True, exist_ok=True)
        (out / "results.json").write_text(json.dumps(self.results, indent=1))
        (out / "RESULTS.md").write_text(make_tables(self.results["runs"]))
