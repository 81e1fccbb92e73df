"""How much memory a server takes: for large messages under way (5b), for idle connections (6)."""

import json
import subprocess
import time

from loads import Item
from processes import forget_peak, memory_kb, peak_kb, settle
from servers import Server
from stage import Stage


def weigh_messages(stage: Stage, server: Server, item: Item) -> dict:
    """How far above idle a server's memory rises, for each message under way."""
    running = stage.start(server, item.cert)
    try:
        pid = running.process.pid
        small = f"--mode starttls --connections {item.memory_connections}"
        stage.load(running.port, small, 200)  # code paths and buffers are warm
        settle(pid)
        idle = memory_kb(pid)["rss"]
        forget_peak(pid)
        loaded = stage.load(running.port, item.args, 3 * item.memory_connections)
        peak = peak_kb(pid)
    finally:
        running.stop()
    per_message = (peak - idle) / 1024 / item.memory_connections
    print(
        f"{item.key:3} {server.name:24} idle {idle / 1024:.1f} MB, peak {peak / 1024:.1f} MB: "
        f"{per_message:.1f} MB per message under way, errors {loaded['errors']}",
        flush=True,
    )
    return {
        "item": f"{item.key}-memory",
        "server": server.name,
        "idle_kb": idle,
        "peak_kb": peak,
        "mb_per_message": per_message,
        "errors": loaded["errors"],
    }


def weigh_idle_connections(stage: Stage, server: Server, connections: int) -> dict:
    """Open connections, secure them, and weigh the server while they are idle."""
    hold = ["--mode", "starttls", "--connections", "20", "--idle", str(connections), "--hold", "5"]
    running = stage.start(server)
    try:
        pid = running.process.pid
        stage.load(running.port, "--mode starttls --handshake-only", 50)
        settle(pid)
        before = memory_kb(pid)
        loader = subprocess.Popen(
            stage.load_command(*hold, f"127.0.0.1:{running.port}"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        ready = loader.stderr.readline() if loader.stderr else ""
        time.sleep(0.5)
        during = memory_kb(pid)
        output = json.loads(loader.communicate(timeout=120)[0])
    finally:
        running.stop()
    held = int(ready.split()[1]) if ready.startswith("READY") else 0
    result = {
        "item": "6",
        "server": server.name,
        "held": held,
        "errors": output["errors"],
        "before": before,
        "during": during,
    }
    for kind in ("rss", "pss"):
        result[f"{kind}_kb_per_connection"] = (during[kind] - before[kind]) / max(held, 1)
    print(
        f"6   {server.name:24} held {held} rss/conn {result['rss_kb_per_connection']:.1f} KB "
        f"pss/conn {result['pss_kb_per_connection']:.1f} KB",
        flush=True,
    )
    return result
