"""Item fair: what mail for a dead and a slow destination takes away from a fast one."""

import json
import socket
import subprocess
import time
from functools import partial

from peers import harakatls_instance
from processes import cpu_seconds, free_port
from servers import OURS, Server
from stage import Stage

FAST, OTHERS = 2000, 4000  # messages: for the fast one; for each of the others, before these
SLOW_MS = 500  # the slow one's pause before it answers a message


def fair_once(stage: Stage, repeat: int) -> dict:
    """The fast destination alone, then beside the others."""
    alone, _ = _fast_one(stage, 0)
    beside, slow = _fast_one(stage, OTHERS)
    print(
        f"fair {OURS:23} alone {alone['seconds']:.2f} s, beside {beside['seconds']:.2f} s, "
        f"lost {alone['missing'] + beside['missing']}, slow meanwhile {slow}, "
        f"cpu/1000 {alone['cpu_s_per_1000']:.3f} {beside['cpu_s_per_1000']:.3f}",
        flush=True,
    )
    return {
        "item": "fair",
        "server": OURS,
        "repeat": repeat,
        "count": FAST + 2 * OTHERS,
        "alone": alone,
        "beside": beside,
        "slow_meanwhile": slow,
        "ratio": beside["seconds"] / alone["seconds"],
    }


def _fast_one(stage: Stage, others: int) -> tuple[dict, int]:
    """@return: figures of the fast one, and what the slow one got meanwhile."""
    ports = {"fast.test": free_port(), "slow.test": free_port(), "dead.test": 0}
    # It takes connections, as far as the kernel does that for it, and never says a word.
    dead = socket.create_server(("127.0.0.1", 0), backlog=256)
    ports["dead.test"] = dead.getsockname()[1]
    fast = stage.start_sink(ports["fast.test"], FAST)
    slow = stage.start_sink(ports["slow.test"], OTHERS, "--delay-ms", str(SLOW_MS))
    try:
        server = Server(OURS, partial(harakatls_instance.routes, ports=ports))
        running = stage.start(server)
        try:
            for domain in ("dead.test", "slow.test") if others else ():
                stage.load(running.port, f"--mode plain --to x@{domain}", others)
            before, start = cpu_seconds(running.process.pid), time.monotonic()
            stage.load(running.port, "--mode plain --to x@fast.test", FAST)
            report = _report(fast, stage.options.relay_limit)
            cpu = cpu_seconds(running.process.pid) - before
        finally:
            running.stop()
    finally:
        dead.close()
        slow.terminate()
        fast.terminate()
        got = json.loads(slow.communicate()[0].strip().splitlines()[-1])["messages"]
        fast.wait()
    return {
        "seconds": report["last_s"] - start,
        "missing": FAST - report["distinct"],
        "cpu_s_per_1000": cpu / FAST * 1000,
    }, got


def _report(sink: subprocess.Popen, limit_s: float) -> dict:
    try:
        report = sink.communicate(timeout=limit_s)[0]
    except subprocess.TimeoutExpired:
        sink.terminate()
        report = sink.communicate()[0]
    return json.loads(report.strip().splitlines()[-1])
