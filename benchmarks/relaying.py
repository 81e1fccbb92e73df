"""Row 7: messages accepted, owned, and delivered over STARTTLS to the sink."""

import json
import subprocess
import time

from processes import cpu_seconds, free_port, settle
from servers import Server
from stage import Stage


def relay_once(stage: Stage, server: Server, repeat: int) -> dict:
    """One run of a relay between smtpload and smtpsink."""
    total = stage.options.relay_messages
    sink_port = free_port()
    sink = stage.start_sink(sink_port, total)
    try:
        running = stage.start(server, sink_port=sink_port)
        try:
            before = cpu_seconds(running.process.pid)
            start = time.monotonic()
            accepted = stage.load(running.port, "--mode plain", total)
            report = wait_for_report(sink, stage.options.relay_limit)
            settle(running.process.pid)
            cpu = cpu_seconds(running.process.pid) - before
        finally:
            running.stop()
    finally:
        if sink.poll() is None:
            sink.terminate()
            sink.wait()
    last = report["last_s"] - start
    print(
        f"7   {server.name:24} accept {accepted['elapsed_s']:.2f} s, last {last:.2f} s, "
        f"delivered {report['messages']}, distinct {report['distinct']}, "
        f"twice {report['duplicates']}, TLS {report['tls_messages']}, "
        f"cpu/1000 {cpu / total * 1000:.3f}",
        flush=True,
    )
    return {
        "item": "7",
        "server": server.name,
        "repeat": repeat,
        "count": total,
        "accept_s": accepted["elapsed_s"],
        "accepted": accepted["accepted"],
        "errors": accepted["errors"],
        "last_delivered_s": last,
        "server_cpu_s": cpu,
        "cpu_s_per_1000": cpu / total * 1000,
        "sink": report,
        "accept": accepted,
    }


def wait_for_report(sink: subprocess.Popen, limit_s: float) -> dict:
    """What the sink says when it has all messages, or when the time is over."""
    try:
        report = sink.communicate(timeout=limit_s)[0]
    except subprocess.TimeoutExpired:
        sink.terminate()
        report = sink.communicate()[0]
    return json.loads(report.strip().splitlines()[-1])
