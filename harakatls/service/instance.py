"""Makes a new instance: the directory that one server runs on (``harakatls init``)."""

import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from harakatls.config.hosts import host_name

SAMPLES = "harakatls.samples"
LISTEN = "127.0.0.1:2525,127.0.0.1:2465"
SMTPS_PORT = "2465"
VALID_FOR = timedelta(days=2190)  # as the TLS documentation's openssl command has it
LONGEST_COMMON_NAME = 64  # RFC 5280 appendix A.1: ub-common-name
PRIVATE, PUBLIC = 0o700, 0o755
DIRECTORIES = {"queue": PRIVATE, "plugins": PUBLIC, "mail": PRIVATE}


class InstanceError(Exception):
    """The instance cannot be made; the text is one line for the operator."""


def make_instance(directory: Path, host: str | None = None) -> str:
    """
    Write a server's directory that works at once: on loopback, for its own name, no open relay.

    The config directory comes last and all at once, so that what failed half-way can be tried
    again; nothing that is there is ever overwritten.

    @param host: the server's name; the system's if None.
    @return: the server's name, as A-labels.
    @raise InstanceError: it is there already, or cannot be written.
    """
    name = _name(host)
    try:
        for taken in (directory / part for part in ("config", *DIRECTORIES)):
            if taken.is_symlink() or (taken.exists() and not _is_empty_directory(taken)):
                raise InstanceError(f"{taken} exists already; nothing was changed")
        directory.mkdir(mode=PUBLIC, parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=".config-", dir=directory))
        try:
            _write_config(unfinished, name)
            for part, mode in DIRECTORIES.items():
                (directory / part).mkdir(mode=mode, exist_ok=True)
            unfinished.chmod(PUBLIC)
            unfinished.rename(directory / "config")
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
    except OSError as problem:
        where = problem.filename or directory
        raise InstanceError(f"cannot write {where}: {problem.strerror}") from None
    return name


def _is_empty_directory(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def _name(host: str | None) -> str:
    try:
        return host_name(socket.gethostname() if host is None else host)
    except ValueError as problem:
        told = problem if host is not None else f"the system's name: {problem}"
        raise InstanceError(f"{told}; give one with --host mail.example.com") from None


# ------------------------------------------------------------------------------ the config


def _write_config(config: Path, name: str) -> None:
    for relative, content in _samples(files(SAMPLES)):
        path = config / relative
        path.parent.mkdir(mode=PUBLIC, parents=True, exist_ok=True)
        path.write_bytes(content)
    smtp = setting(_text(config / "smtp.ini"), "listen", LISTEN)
    (config / "smtp.ini").write_text(setting(smtp, "smtps_port", SMTPS_PORT), "utf-8")
    tls = setting(_text(config / "tls.ini"), "ecdhCurve", "auto")
    (config / "tls.ini").write_text(tls, "utf-8")
    for file in ("me", "host_list"):
        (config / file).write_text(_text(config / file) + f"{name}\n", "utf-8")
    key, certificate = self_signed_pair(name)
    descriptor = os.open(config / "tls_key.pem", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file_of_key:
        file_of_key.write(key)
    (config / "tls_cert.pem").write_bytes(certificate)


def _text(path: Path) -> str:
    return path.read_text("utf-8") if path.exists() else ""


def _samples(directory: Traversable, prefix: str = "") -> Iterator[tuple[str, bytes]]:
    for entry in directory.iterdir():
        if entry.name.startswith((".", "__")):
            continue
        if entry.is_dir():
            yield from _samples(entry, f"{prefix}{entry.name}/")
        else:
            yield prefix + entry.name, entry.read_bytes()


def setting(text: str, key: str, value: str) -> str:
    """
    An ini file with *key* set in its main section.

    Takes the place of the line that sets it, or of the commented default; else it comes first.
    """
    head, header, rest = _split_at_section(text)
    line = f"{key}={value}"
    pattern = re.compile(rf"^;?[ \t]*{re.escape(key)}[ \t]*=.*$", re.MULTILINE)
    head, found = pattern.subn(lambda _: line, head, count=1)
    if not found:
        head = f"{line}\n{head}"
    return head + header + rest


def _split_at_section(text: str) -> tuple[str, str, str]:
    header = re.search(r"^[ \t]*\[(?!main\])", text, re.MULTILINE)
    if header is None:
        return text, "", ""
    return text[: header.start()], header.group(), text[header.end() :]


# -------------------------------------------------------------------------- the first pair


def self_signed_pair(name: str) -> tuple[bytes, bytes]:
    """
    A pair to begin with; whoever checks certificates will not trust it.

    @return: the key and the certificate, as PEM.
    """
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    fits = len(name) <= LONGEST_COMMON_NAME
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)] if fits else [])
    now = datetime.now(UTC)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))  # for clients whose clock is behind
        .not_valid_after(now + VALID_FOR)
        # RFC 5280 section 4.2.1.6: an empty subject makes the alternative name critical.
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=not fits)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(identifier, critical=False)
    )
    certificate = builder.sign(key, hashes.SHA256())
    return (
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        certificate.public_bytes(serialization.Encoding.PEM),
    )
