"""All figures of a run as Markdown tables, one for each item."""

import statistics
from collections.abc import Callable

from loads import BY_KEY, Item

Run = dict
Groups = dict[str, list[Run]]


def spread(values: list[float], digits: int) -> str:
    """Median, least and greatest."""
    low, high = min(values), max(values)
    return f"{statistics.median(values):.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def table(title: str, columns: str, rows: list[str]) -> list[str]:
    """A heading and a table whose first column is the server's name."""
    count = columns.count("|") + 1
    return [f"## {title}", "", f"| server | {columns} |", f"|---|{'--:|' * count}", *rows, ""]


def idle_table(by_server: Groups) -> list[str]:
    """Row 6."""
    rows = [
        f"| {name} | {min(r['held'] for r in group)} | "
        f"{spread([r['rss_kb_per_connection'] for r in group], 1)} | "
        f"{spread([r['pss_kb_per_connection'] for r in group], 1)} | "
        f"{statistics.median(r['before']['rss'] for r in group) / 1024:.0f} | "
        f"{max(r['during']['processes'] for r in group)} | "
        f"{sum(r['errors'] for r in group)} |"
        for name, group in by_server.items()
    ]
    columns = "held | KB RSS/connection | KB PSS/connection | RSS before, MB | processes | errors"
    return table("6: idle STARTTLS connections", columns, rows)


def relay_table(by_server: Groups) -> list[str]:
    """Row 7."""
    rows = []
    for name, group in by_server.items():
        count = group[0]["count"]
        rate = statistics.median(r["sink"]["distinct"] / r["last_delivered_s"] for r in group)
        rows.append(
            f"| {name} | {count} | {spread([r['accept_s'] for r in group], 2)} | "
            f"{spread([r['last_delivered_s'] for r in group], 2)} | {rate:.0f} | "
            f"{spread([r['cpu_s_per_1000'] for r in group], 3)} | "
            f"{max(count - r['sink']['distinct'] for r in group)} | "
            f"{max(r['sink']['duplicates'] for r in group)} | "
            f"{min(r['sink']['tls_messages'] for r in group)} | "
            f"{statistics.median(r['sink']['connections'] for r in group):.0f} |"
        )
    columns = (
        "messages | accepted after, s | last delivered after, s | delivered/s | CPU s/1000 | "
        "missing | twice | over TLS | connections to the sink"
    )
    return table("7: accept, queue, deliver over STARTTLS", columns, rows)


def crowd_table(by_server: Groups) -> list[str]:
    """Row 9."""

    def each(group: list[Run], figure: str, digits: int = 2) -> str:
        return " | ".join(
            spread([run[when][figure] for run in group], digits) for when in ("alone", "beside")
        )

    rows = [
        f"| {name} | {each(group, 'p99_ms')} | {spread([r['ratio'] for r in group], 2)} | "
        f"{each(group, 'cpu_s_per_1000', 3)} | {spread([r['mb'] for r in group], 0)} | "
        f"{spread([r['kb_per_slow'] for r in group], 0)} | "
        f"{min(r['slow_left'] for r in group)} | {sum(r['errors'] for r in group)} |"
        for name, group in by_server.items()
    ]
    columns = (
        "p99 alone, ms | beside the slow, ms | ratio | CPU s/1000 alone | beside | MB with all | "
        "KB per slow one | slow left | errors"
    )
    return table("9: 100 connections, 200 messages/s, beside 900 slow ones", columns, rows)


def fair_table(by_server: Groups) -> list[str]:
    """Item fair."""
    rows = [
        f"| {name} | {spread([r['alone']['seconds'] for r in group], 2)} | "
        f"{spread([r['beside']['seconds'] for r in group], 2)} | "
        f"{spread([r['ratio'] for r in group], 2)} | "
        f"{max(r['alone']['missing'] + r['beside']['missing'] for r in group)} | "
        f"{statistics.median(r['slow_meanwhile'] for r in group):.0f} |"
        for name, group in by_server.items()
    ]
    columns = "fast one alone, s | beside dead and slow, s | ratio | missing | slow got meanwhile"
    return table(
        "fair: 2,000 messages beside 4,000 for a dead and 4,000 for a slow one", columns, rows
    )


def openssl_table(key: str, by_server: Groups) -> list[str]:
    """What OpenSSL alone can do."""
    rows = [
        f"| {name} | {spread([r['units_per_s'] for r in group], 0)} | "
        f"{spread([r['cpu_s_per_1000'] for r in group], 4)} |"
        for name, group in by_server.items()
    ]
    title = f"{key}: s_server and s_time, one connection at a time, TLS 1.3"
    return table(title, "handshakes/s | CPU s/1000", rows)


def memory_table(key: str, by_server: Groups) -> list[str]:
    """Peak memory above idle."""
    rows = [
        f"| {name} | {statistics.median(r['idle_kb'] for r in group) / 1024:.1f} | "
        f"{statistics.median(r['peak_kb'] for r in group) / 1024:.1f} | "
        f"{spread([r['mb_per_message'] for r in group], 1)} | "
        f"{sum(r['errors'] for r in group)} |"
        for name, group in by_server.items()
    ]
    columns = "idle RSS, MB | peak RSS, MB | MB more per message under way | errors"
    return table(f"{key}: peak of the resident memory", columns, rows)


def load_table(item: Item, by_server: Groups) -> list[str]:
    """The rows that smtpload measures."""
    latency = "session_ms" if item.unit == "handshakes" else "message_ms"
    rows = []
    for name, group in by_server.items():
        cpu = [r["cpu_s_per_1000"] for r in group if r["cpu_s_per_1000"] is not None]

        def median(pick: Callable[[Run], float], group: list[Run] = group) -> float:
            return statistics.median(pick(run) for run in group)

        digits = 0 if median(lambda r: r["units_per_s"]) >= 20 else 1
        rows.append(
            f"| {name} | {spread([r['units_per_s'] for r in group], digits)} | "
            f"{median(lambda r: r['mb_per_s']):.1f} | {spread(cpu, 4) if cpu else '-'} | "
            f"{median(lambda r: r[latency]['p50']):.2f} | "
            f"{median(lambda r: r[latency]['p99']):.2f} | "
            f"{median(lambda r: r['server_cpu_s'] / r['elapsed_s']):.0%} | "
            f"{median(lambda r: r['client_cpu_s'] / r['elapsed_s']):.0%} | "
            f"{median(lambda r: r['resumed'] / max(r['handshakes'], 1)):.0%} | "
            f"{sum(r['errors'] for r in group)} |"
        )
    columns = (
        f"{item.unit}/s | MB/s | server CPU s/1000 | p50 ms | p99 ms | server busy | "
        "client busy | resumed | errors"
    )
    return table(f"{item.key}: {item.title}", columns, rows)


def make_tables(runs: list[Run]) -> str:
    """Every item that was measured, in the order of loads.py."""
    lines = ["# Results", "", "Median (least-greatest) of the repeats.", ""]
    groups: dict[str, Groups] = {}
    for run in runs:
        groups.setdefault(run["item"], {}).setdefault(run["server"], []).append(run)
    order = [name for key in BY_KEY for name in (key, f"{key}-memory")]
    order += ["openssl-rsa", "openssl-ecdsa", "6", "7", "9", "fair"]
    for key in sorted(groups, key=order.index):
        by_server = groups[key]
        if key == "6":
            lines += idle_table(by_server)
        elif key == "7":
            lines += relay_table(by_server)
        elif key == "9":
            lines += crowd_table(by_server)
        elif key == "fair":
            lines += fair_table(by_server)
        elif key.startswith("openssl-"):
            lines += openssl_table(key, by_server)
        elif key.endswith("-memory"):
            lines += memory_table(key, by_server)
        else:
            lines += load_table(BY_KEY[key], by_server)
    return "\n".join(lines)
