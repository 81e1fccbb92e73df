"""The kinds of load that are measured: what smtpload is told for each row of TARGETS.md."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Item:
    """One kind of load. `unit` names what is counted: messages or handshakes."""

    key: str
    title: str
    args: str
    unit: str = "messages"
    cert: str = "rsa"
    first_guess: int = 400  # units of the first warm-up run
    least: int = 200
    fixed_count: int = 0  # do not calibrate
    durable: bool = False  # only for servers that own a message on disk before their 250
    memory_connections: int = 0  # messages under way at once, where memory is measured as well


# The first handshake of each of the 20 connections has nothing to resume: 2 % of these.
ENOUGH_TO_RESUME = 1000

ITEMS = [
    Item("1", "plain, 4 KB, 20 connections", "--mode plain"),
    Item(
        "1p",
        "plain, 4 KB, 20 connections, client pipelines if offered",
        "--mode plain --pipelining on",
    ),
    Item("1d", "plain, 4 KB, committed to the durable spool", "--mode plain", durable=True),
    Item(
        "2",
        "STARTTLS, 4 KB, 100 messages a connection",
        "--mode starttls --per-connection 100",
        first_guess=2000,
        least=2000,
    ),
    Item(
        "3r",
        "STARTTLS, 1 message a connection, TLS 1.3, RSA-2048",
        "--mode starttls --tls 1.3 --per-connection 1",
    ),
    Item(
        "3s",
        "the same with session resumption",
        "--mode starttls --tls 1.3 --per-connection 1 --resume",
        least=ENOUGH_TO_RESUME,
    ),
    Item(
        "4r",
        "handshake only, TLS 1.3, RSA-2048",
        "--mode starttls --tls 1.3 --handshake-only",
        unit="handshakes",
    ),
    Item(
        "4s",
        "the same with session resumption",
        "--mode starttls --tls 1.3 --handshake-only --resume",
        unit="handshakes",
        least=ENOUGH_TO_RESUME,
    ),
    Item(
        "3e",
        "STARTTLS, 1 message a connection, TLS 1.3, ECDSA P-256",
        "--mode starttls --tls 1.3 --per-connection 1",
        cert="ecdsa",
    ),
    Item(
        "4e",
        "handshake only, TLS 1.3, ECDSA P-256",
        "--mode starttls --tls 1.3 --handshake-only",
        unit="handshakes",
        cert="ecdsa",
    ),
    Item(
        "5a",
        "STARTTLS, 1 MB messages, 4 connections",
        "--mode starttls --size 1000000 --connections 4",
        first_guess=12,
        least=12,
    ),
    Item(
        "5b",
        "STARTTLS, 25 MB messages, 2 connections",
        "--mode starttls --size 25000000 --connections 2",
        first_guess=2,
        least=4,
        memory_connections=2,
    ),
    Item(
        "8",
        "latency: STARTTLS, 10 connections, 100 messages/s",
        "--mode starttls --connections 10 --rate 100",
        fixed_count=300,
    ),
]
BY_KEY = {item.key: item for item in ITEMS}
