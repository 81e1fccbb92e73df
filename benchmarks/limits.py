"""The limit set by OpenSSL itself: s_server with s_time, and openssl speed."""

import re
import subprocess
import time

from processes import cpu_seconds, free_port
from stage import Stage


def time_openssl(stage: Stage, kind: str) -> dict:
    """Handshakes between s_server and s_time for three seconds."""
    cert, key = stage.certificates[kind]
    port = free_port()
    serve = ["taskset", "-c", stage.options.server_cpu, "openssl", "s_server", "-quiet"]
    serve += ["-accept", f"127.0.0.1:{port}", "-cert", str(cert), "-key", str(key)]
    connect = ["taskset", "-c", stage.options.load_cpu, "openssl", "s_time", "-new"]
    connect += ["-connect", f"127.0.0.1:{port}", "-time", "3", "-tls1_3"]
    null = subprocess.DEVNULL
    server = subprocess.Popen(serve, stdin=null, stdout=null, stderr=null)
    try:
        time.sleep(0.3)
        before = cpu_seconds(server.pid)
        out = subprocess.run(connect, capture_output=True, text=True).stdout
        cpu = cpu_seconds(server.pid) - before
    finally:
        server.terminate()
        server.wait()
    found = re.search(r"(\d+) connections in (\d+) real seconds", out)
    if found is None:
        raise RuntimeError(f"openssl s_time said: {out.strip()}")
    count, seconds = map(int, found.groups())
    print(f"openssl {kind}: {count} in {seconds} s, cpu/1000 {cpu / count * 1000:.4f}", flush=True)
    return {
        "item": f"openssl-{kind}",
        "server": "openssl s_server",
        "count": count,
        "units_per_s": count / seconds,
        "server_cpu_s": cpu,
        "cpu_s_per_1000": cpu / count * 1000,
        "errors": 0,
    }


def openssl_speed(stage: Stage) -> list[str]:
    """What openssl speed prints of the operations in a handshake."""
    speed = ["taskset", "-c", stage.options.server_cpu, "openssl", "speed", "-seconds", "2"]
    speed += ["rsa2048", "ecdsap256", "ecdhx25519"]
    return subprocess.run(speed, capture_output=True, text=True).stdout.splitlines()[-8:]
