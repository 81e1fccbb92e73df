"""Row 9: what 900 slow connections take away from 100 others, and what a thousand of them cost."""

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from processes import cpu_seconds, memory_kb, settle
from servers import Server
from stage import Stage

SLOW, OTHERS = 900, 100  # connections
RATE = 200  # messages a second, over the 100 connections
MESSAGES = 1200  # in each round
BEGINNING = 200  # of these, while the connections are made, whose handshakes would be all there is
ROUNDS = 3  # the middle one counts: a moment in which the machine does something else is no latency
LOAD = f"--mode starttls --connections {OTHERS} --rate {RATE} --skip {BEGINNING}"


def crowd_once(stage: Stage, server: Server, repeat: int) -> dict:
    """The others alone, then beside the slow ones, on one server."""
    running = stage.start(server)
    try:
        pid = running.process.pid
        stage.load(running.port, LOAD, MESSAGES // 2)  # warm
        settle(pid)
        empty = memory_kb(pid)["rss"]
        alone = _measured(stage, running.port, pid)
        with _slow_peers(stage, running.port) as left:
            settle(pid)
            crowded = memory_kb(pid)["rss"]
            beside = _measured(stage, running.port, pid)
    finally:
        running.stop()
    result = {
        "item": "9",
        "server": server.name,
        "repeat": repeat,
        "alone": alone,
        "beside": beside,
        "ratio": beside["p99_ms"] / alone["p99_ms"],
        "mb": crowded / 1024,
        "kb_per_slow": (crowded - empty) / SLOW,
        "slow_left": left[0] if left else 0,
        "errors": alone["errors"] + beside["errors"],
    }
    print(
        f"9   {server.name:24} p99 alone {alone['p99_ms']:.2f} ms, beside {SLOW} slow "
        f"{beside['p99_ms']:.2f} ms: {result['ratio']:.2f}x; p50 {alone['p50_ms']:.2f} "
        f"{beside['p50_ms']:.2f} ms; cpu/1000 {alone['cpu_s_per_1000']:.3f} "
        f"{beside['cpu_s_per_1000']:.3f} s; {result['mb']:.0f} MB, "
        f"{result['kb_per_slow']:.0f} KB each; {result['slow_left']} slow left, "
        f"errors {result['errors']}",
        flush=True,
    )
    return result


def _measured(stage: Stage, port: int, pid: int) -> dict:
    """Medians of the rounds."""
    before = cpu_seconds(pid)
    rounds = [stage.load(port, LOAD, MESSAGES) for _ in range(ROUNDS)]
    accepted = sum(loaded["accepted"] for loaded in rounds)
    return {
        "p50_ms": statistics.median(loaded["message_ms"]["p50"] for loaded in rounds),
        "p99_ms": statistics.median(loaded["message_ms"]["p99"] for loaded in rounds),
        "cpu_s_per_1000": (cpu_seconds(pid) - before) / max(accepted, 1) * 1000,
        "errors": sum(loaded["errors"] for loaded in rounds),
    }


@contextmanager
def _slow_peers(stage: Stage, port: int) -> Iterator[list[int]]:
    """@return: when they have gone, how many of them had not been sent away."""
    left: list[int] = []
    script = Path(__file__).with_name("slow_peers.py")
    command = ["taskset", "-c", stage.options.load_cpu, sys.executable, str(script)]
    peers = subprocess.Popen(
        [*command, "127.0.0.1", str(port), str(SLOW)], stdout=subprocess.PIPE, text=True
    )
    assert peers.stdout is not None
    try:
        peers.stdout.readline()  # READY
        yield left
        peers.terminate()
        told = peers.communicate(timeout=30)[0].strip()
        left.append(json.loads(told)["open"] if told else 0)
    finally:
        peers.kill()
        peers.wait()
