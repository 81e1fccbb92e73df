#!/usr/bin/env python3
"""Measure SMTP servers side by side on the loopback interface.

Starts every chosen server pinned to one CPU and the load generator pinned to
another, runs the work items round-robin over the servers (so that a slow spell
of the machine hits them all), writes results.json and RESULTS.md, and prints
the rows of TARGETS.md that were measured.

More servers are added on the command line; the placeholders {port}, {cert},
{key}, {dir} (an empty working directory) and {sink_port} are filled in:

  run_peers.py --work DIR --server 'mine=python3 -m mine --port {port} --cert {cert} --key {key}'
  run_peers.py --work DIR --items 7 --relay 'mine=python3 -m mine --port {port} --to {sink_port}'

A --server has to accept mail from load.test to sink.test and may forget it; a
--relay has to queue it durably and to deliver it over STARTTLS to the sink.
"""

import argparse
import os
import signal
import sys
from pathlib import Path

from loads import BY_KEY, Item
from measuring import Bench
from servers import CROWDED, OURS, RELAYS, SERVERS, Server, choose
from tables import make_tables
from targets import compare

HERE = Path(__file__).resolve().parent


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--work", required=True, type=Path, help="directory for configurations and spools")
    add("--out", default=".", type=Path, help="where results.json and RESULTS.md go")
    add("--tools", default=HERE, type=Path, help="directory of smtpload and smtpsink")
    add(
        "--haraka",
        default=os.environ.get("HARAKA_HOME", ""),
        help="Haraka's package directory (or HARAKA_HOME)",
    )
    add(
        "--harakatls",
        default=str(Path(sys.executable).parent),
        help="directory of the programs harakatls and twistd",
    )
    add(
        "--python",
        default=sys.executable,
        help="interpreter that has aiosmtpd, Twisted and uvloop",
    )
    known = ", ".join(dict.fromkeys(server.name for server in SERVERS + RELAYS))
    add(
        "--peers",
        default="all",
        help=f"comma-separated built-in servers, 'all' or 'none'; known: {known}",
    )
    add("--items", default="1,1p,1d,2,3r,3s,4r,4s,3e,4e,openssl,7,5a,5b,6,8,9")
    add("--server", action="append", default=[], metavar="NAME=COMMAND")
    add("--relay", action="append", default=[], metavar="NAME=COMMAND")
    add(
        "--add",
        action="store_true",
        help="keep the other items that are in the results.json of --out",
    )
    add("--repeats", type=int, default=5)
    add("--seconds", type=float, default=1.5, help="aimed length of one run")
    add("--warmup", type=float, default=3.0, help="seconds of load before an item's timed runs")
    add("--relay-messages", type=int, default=5000)
    add("--relay-repeats", type=int, default=5)
    add("--relay-concurrency", type=int, default=20)
    add("--relay-limit", type=float, default=120, help="seconds to wait for the last delivery")
    add("--idle-repeats", type=int, default=3)
    add("--idle-connections", type=int, default=1000)
    add("--server-cpu", default="0")
    add("--load-cpu", default="1")
    add("--lock", help="lock file shared with other benchmarks")
    options = parser.parse_args()
    for name in ("work", "out", "tools"):
        setattr(options, name, getattr(options, name).resolve())
    unknown = set(options.items.split(",")) - set(BY_KEY) - {"6", "7", "9", "fair", "openssl"}
    if unknown:
        parser.error(f"unknown items: {', '.join(sorted(unknown))}")
    names = {server.name for server in SERVERS + RELAYS} | {"all", "none"}
    if unknown := set(options.peers.split(",")) - names:
        parser.error(f"unknown peers: {', '.join(sorted(unknown))}; known: {known}")
    return options


def run(bench: Bench, keys: list[str], servers: list[Server], relays: list[Server]) -> None:
    """Measure the items in their order."""
    simple: list[Item] = []  # items that share running servers go together, the others one by one
    for key in [*keys, "end"]:
        if key in BY_KEY:
            simple.append(BY_KEY[key])
            continue
        if simple:
            bench.run_items(servers, simple)
            simple = []
        if key == "openssl":
            bench.run_openssl()
        elif key == "6":
            bench.run_idle(servers)
        elif key == "7":
            bench.run_relay(relays)
        elif key == "9":
            bench.run_crowd(
                [CROWDED.get(server.name, server) for server in servers if server.forgets]
            )
        elif key == "fair":
            bench.run_fair()


def main() -> None:
    options = parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that servers are ended too
    bench = Bench(options)
    servers = choose(SERVERS, options.peers, options.server)
    relays = choose(RELAYS, options.peers, options.relay)
    if not options.haraka:
        servers = [server for server in servers if not server.name.startswith("haraka-")]
        servers = [server for server in servers if server.name != "haraka"]
        relays = [server for server in relays if server.name != "haraka"]
    run(bench, options.items.split(","), servers, relays)
    bench.save()
    comparison = compare(bench.results["runs"], OURS)
    (options.out / "COMPARISON.md").write_text(comparison)
    print()
    print(make_tables(bench.results["runs"]))
    print(comparison)


if __name__ == "__main__":
    main()
