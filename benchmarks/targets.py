"""
What TARGETS.md asks for, as values; and the verdict on a run.

The figures are ratios to Haraka measured in the same run wherever machines differ, else absolute.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass

Run = dict
PEER = "haraka"


@dataclass(frozen=True)
class Target:
    """One figure of one row: what must be reached, and where we are going."""

    row: str
    measured: str
    item: str  # where the figure is found among the runs
    figure: Callable[[Run], float | None]
    must: float
    goal: float
    relative: bool = True  # the ratio to Haraka's figure counts
    peer_item: str = ""  # Haraka's figure is that of another item
    more_is_better: bool = False
    digits: int = 3

    def is_met(self, value: float, wanted: float) -> bool:
        """Whether a ratio or figure reaches what is wanted."""
        return value >= wanted if self.more_is_better else value <= wanted


def cpu(run: Run) -> float | None:
    """Server CPU seconds for 1,000 messages or handshakes."""
    return run["cpu_s_per_1000"]


def resumed(run: Run) -> float:
    """The share of the handshakes that resumed a session, in percent."""
    return 100 * run["resumed"] / max(run["handshakes"], 1)


def delivered_per_s(run: Run) -> float:
    """Messages at the sink for each second from the first connection to the last message."""
    return run["sink"]["distinct"] / run["last_delivered_s"]


CPU = "CPU s/1000"
TARGETS = [
    Target("1", CPU, "1", cpu, 0.5, 0.4),
    Target("1p", CPU, "1p", cpu, 0.3, 0.2),
    Target("1d", CPU, "1d", cpu, 0.8, 0.6, peer_item="1"),
    Target("2", CPU, "2", cpu, 0.5, 0.4),
    Target("3r", CPU, "3r", cpu, 0.35, 0.25),
    Target("3e", CPU, "3e", cpu, 0.3, 0.2),
    Target("3s", "% resumed", "3s", resumed, 95, 95, False, more_is_better=True, digits=0),
    Target("4e", CPU, "4e", cpu, 0.33, 0.25),
    Target("5a", CPU, "5a", cpu, 0.5, 0.3, digits=2),
    Target("5b", CPU, "5b", cpu, 0.5, 0.3, digits=1),
    Target(
        "5b",
        "MB more per message under way",
        "5b-memory",
        lambda run: run["mb_per_message"],
        8,
        8,
        False,
        digits=1,
    ),
    Target(
        "6",
        "KB per idle connection",
        "6",
        lambda run: run["rss_kb_per_connection"],
        48,
        32,
        False,
        digits=1,
    ),
    Target("7", CPU, "7", cpu, 0.4, 0.2),
    Target(
        "7", "delivered/s", "7", delivered_per_s, 600, 1000, False, more_is_better=True, digits=0
    ),
    Target(
        "9", "p99 beside 900 slow / alone", "9", lambda run: run["ratio"], 3, 1.5, False, digits=2
    ),
]


def median(runs: list[Run], target: Target, item: str, server: str) -> float | None:
    """The median of a server's figures for an item; None where it was not measured."""
    figures = [target.figure(r) for r in runs if (r["item"], r["server"]) == (item, server)]
    known = [figure for figure in figures if figure is not None]
    return statistics.median(known) if known else None


def wanted_text(target: Target, wanted: float) -> str:
    """A must or a goal as TARGETS.md writes it."""
    sign = "≥" if target.more_is_better else "≤"
    return f"{sign} {wanted:g}{'x' if target.relative else ''}"


def verdict(target: Target, ours: float | None, peer: float | None) -> tuple[str, str]:
    """Our ratio to Haraka, and whether the must and the goal are met."""
    if ours is None:
        return "-", "not measured"
    ratio = f"{ours / peer:.2f}x" if peer else "-"
    if target.relative and not peer:
        return ratio, "no Haraka in this run"
    value = ours / peer if target.relative and peer else ours
    if target.is_met(value, target.goal):
        return ratio, "goal met"
    return ratio, "must met" if target.is_met(value, target.must) else "NOT met"


def compare(runs: list[Run], ours: str) -> str:
    """The rows of TARGETS.md that were measured, our column beside the peers'."""
    others = list(dict.fromkeys(run["server"] for run in runs if run["server"] != ours))
    columns = [ours, *others]
    lines = [
        "# Rows of TARGETS.md: medians",
        "",
        f"| row | measured | {' | '.join(columns)} | of Haraka | must | goal | verdict |",
        f"|---|---|{'--:|' * (len(columns) + 3)}---|",
    ]
    for target in TARGETS:
        peer = median(runs, target, target.peer_item or target.item, PEER)
        figures = {name: median(runs, target, target.item, name) for name in columns}
        if all(figure is None for figure in figures.values()):
            continue
        cells = []
        for name in columns:
            figure = figures[name]
            if figure is None and name == PEER and target.peer_item and peer is not None:
                cells.append(f"(row {target.peer_item}: {peer:.{target.digits}f})")
            else:
                cells.append("-" if figure is None else f"{figure:.{target.digits}f}")
        ratio, met = verdict(target, figures[ours], peer)
        row = [target.row, target.measured, *cells, ratio]
        row += [wanted_text(target, target.must), wanted_text(target, target.goal), met]
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines) + "\n"
