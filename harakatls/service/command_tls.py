"""``harakatls tls``: what the TLS settings come to, and what is wrong with them."""

import argparse
import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from harakatls.config.directory import ConfigDirectory
from harakatls.service.effective import Facts
from harakatls.service.identity_report import identity_lines
from harakatls.service.logs import printable
from harakatls.service.tls_report import TLSReport, as_mapping, tls_report

_INDENT = "    "
_WIDTH = 100


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The command and its options."""
    text = (
        "Print certificates, what each listener offers, the settings that count, and every "
        "mistake in them; the exit status is 1 if there is any."
    )
    parser = commands.add_parser("tls", help=text, description=text)
    parser.add_argument("--config", "-c", metavar="DIR", default="./config")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """The server may be running; nothing is changed."""
    report = tls_report(ConfigDirectory(options.config), datetime.now(UTC))
    if options.json:
        print(json.dumps(as_mapping(report), indent=2))
    else:
        for line in lines(report):
            print(printable(line))
    return 1 if report.mistakes else 0


def lines(report: TLSReport) -> Iterator[str]:
    """For people."""
    if report.certificates:
        yield "Certificates"
        for certificate in report.certificates:
            yield ""
            yield from _certificate_lines(certificate)
        yield ""
    if report.listeners:
        yield "Listeners"
        for listener in report.listeners:
            yield ""
            yield from _listener_lines(listener)
        yield ""
    if report.identities:
        yield "Certificates for next hops that ask for one"
        yield ""
        for identity in report.identities:
            for name, text in identity_lines(identity):
                yield from _fact(name, text) if name else (f"  {text}",)
            yield ""
    for title, settings in (
        ("Settings for incoming mail", report.incoming),
        *((f"Settings for clients that ask for {name}", f) for name, f in report.named.items()),
        ("Settings for outgoing mail", report.outgoing),
        *((f"Settings for the plugin {name}", f) for name, f in report.plugins.items()),
        ("The memory of hosts with which TLS failed", report.redis),
    ):
        if settings:
            yield title
            yield ""
            for name, value in settings.items():
                yield from _fact(name, _shown(value), 26)
            yield ""
    for title, texts in (("Warnings", report.warnings), ("Mistakes", report.mistakes)):
        if texts:
            yield title
            yield ""
            yield from (f"{_INDENT}{text}" for text in texts)
            yield ""
    number = len(report.mistakes)
    yield f"{number} mistake{'' if number == 1 else 's'}" if number else "No mistakes."


def _certificate_lines(facts: Facts) -> Iterator[str]:
    yield f"  {facts['source']}"
    shown = ["everybody else"] if facts["default"] else []
    days = facts["days_left"]
    left = f"{days} days left" if days >= 0 else "EXPIRED"
    yield from _fact("names", _shown(facts["names"]))
    yield from _fact("shown to", _shown([*facts["shown_for"], *shown]))
    yield from _fact("key", facts["key"])
    yield from _fact("serial", facts["serial"])
    yield from _fact("SHA-256", facts["sha256"])
    yield from _fact("valid", f"{facts['valid_from']} to {facts['valid_until']} ({left})")
    issuer = facts["issuer_of_last"]
    ending = f", issued by {issuer}" if issuer else ", issued by itself"
    yield from _fact("chain", " < ".join(facts["chain"]) + ending)
    if facts["staple"] is not None:
        yield from _fact("staple", facts["staple"])


def _listener_lines(facts: Facts) -> Iterator[str]:
    yield f"  {facts['address']}"
    yield from _fact("TLS", facts["tls"])
    if "versions" not in facts:
        return
    if not facts["implicit_tls"]:
        yield from _fact("required of", _shown(facts["required_of"], "nobody"))
        if facts["not_offered_to"]:
            yield from _fact("not for", _shown(facts["not_offered_to"]))
    yield from _fact("versions", _shown(facts["versions"]))
    yield from _fact("ciphers", _shown(facts["ciphers"]))
    yield from _fact("groups", facts["groups"])
    yield from _fact("certificate", "; ".join(facts["certificates"]))
    general = facts["client_certificate"]
    by_name = facts["client_certificate_by_name"].items()
    others = [f"{name}: {demand}" for name, demand in by_name if demand != general]
    yield from _fact("clients'", "; ".join((general, *others)))


def _fact(name: str, text: str, width: int = 12) -> Iterator[str]:
    """Long lists go on in further lines, below the beginning of the first."""
    start = f"{_INDENT}{name:<{width}}"
    room = _WIDTH - len(start)
    rest = text
    while len(rest) > room and (cut := rest.rfind(" ", 0, room)) > 0:
        yield start + rest[:cut]
        start, rest = " " * len(start), rest[cut + 1 :]
    yield start + rest


def _shown(value: Any, nothing: str = "none") -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "unknown"
    if isinstance(value, Iterable) and not isinstance(value, str):
        return ", ".join(map(str, value)) or nothing
    return f"{value:g}" if isinstance(value, float) else str(value)
