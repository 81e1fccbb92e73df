"""Every option of tls.ini with values that are none: each mistake is one line that says where."""

from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from harakatls.config.errors import ConfigError
from harakatls.tls.client import ClientTLS
from harakatls.tls.server import ServerTLS
from harakatls.tls.settings import TLSSettings
from tests.config.files import write_config

BOOLEANS = ("honorCipherOrder", "requestCert", "rejectUnauthorized", "requestOCSP")
PORTS = ("requireAuthorized", "no_starttls_ports", "require_tls_ports")
VERSIONS = ("minVersion", "maxVersion")
ALL_VERSIONS = "TLSv1, TLSv1.1, TLSv1.2, TLSv1.3"
FILES = ("key", "cert", "ca")
HOST = "an address, a network (192.0.2.0/24), a name or a name with a wildcard (*.example.com)"
BOTH, IN, OUT = ("", "[inbound]\n", "[outbound]\n"), ("", "[inbound]\n"), ("[outbound]\n",)

Row = tuple[str, str]
"""What tls.ini says, and the error."""


def rows() -> Iterator[Row]:
    yield from _in(IN, _booleans("honorCipherOrder", "requestCert", "requestOCSP"))
    yield from _in(BOTH, _booleans("rejectUnauthorized"))
    yield from _in(IN, _booleans("enableOCSPStapling"))
    yield from _in(("[redis]\n",), _booleans("disable_for_failed_hosts"))
    yield from _in(IN, _ports())
    yield from _in(BOTH, _versions())
    yield from _in(BOTH, _ciphers_and_curves())
    yield from _in(IN, _files(FILES))
    yield from _in(OUT, _files(("ca",)))
    yield from _in(("", *OUT), _hosts("force_tls_hosts"))
    yield from _in(OUT, _hosts("no_tls_hosts"))
    yield from _in(("[redis]\n",), _redis())
    yield from _in(("", *OUT), _booleans("mutual_tls"))
    yield from _in(BOTH, _methods())
    yield from _in((*IN, "[x.example]\n"), _groups())
    yield from _in(("[x.example]\n",), _booleans("requestCert"))
    yield from _in(("[queue/smtp_proxy]\n",), _versions())
    yield (
        "[x.example]\n[X.EXAMPLE.]\n",
        "[X.EXAMPLE.]: is about the same name as [x.example]",
    )
    yield (
        "[smtp_proxy]\n[queue/smtp_proxy]\n",
        "[queue/smtp_proxy]: is about the same plugin as [smtp_proxy]; write one of the two",
    )
    yield "[no_tls_hosts]\n192.0.2.0/33\n", f"[no_tls_hosts]: '192.0.2.0/33' is not {HOST}"
    yield "[no_tls_hosts]\n300.1.1.1\n", f"[no_tls_hosts]: '300.1.1.1' is not {HOST}"
    yield (
        "minVersion=TLSv1.3\nmaxVersion=TLSv1.2\n",
        "maxVersion: is below minVersion, which is TLSv1.3",
    )
    yield (
        "require_tls_ports[]=587\nno_starttls_ports[]=587\n",
        "require_tls_ports: lists 587, and so does no_starttls_ports: no mail could come",
    )
    yield (
        "require_tls_hosts[]=mx.example\n",
        "require_tls_hosts: 'mx.example' is not an address or a network (192.0.2.0/24): nothing "
        "else is known of a client that has just connected",
    )


def _in(sections: tuple[str, ...], found: Iterator[Row]) -> Iterator[Row]:
    for text, error in found:
        for section in sections:
            yield section + text, f"{section.strip()} {error}".strip()


def _scalar(option: str, expected: str) -> Iterator[Row]:
    yield f"{option}\n", f"{option}: has no value; expected {expected}"
    yield f"{option}[]=x\n", f"{option}: is an array ({option}[]); expected {expected}"


def _booleans(*options: str) -> Iterator[Row]:
    for option in options:
        yield from _scalar(option, "true or false")
        for value in ("ture", "", "2", "true false", "yes!"):
            yield f"{option}={value}\n", f"{option}: {value!r} is neither true nor false"


def _ports() -> Iterator[Row]:
    for option in PORTS:
        yield f"{option}\n", f"{option}: has no value; expected {option}[]=... for each entry"
        for value in ("smtp", "0", "65536", "-1", "25.0", "0x19", "25,465", "99999999999999999999"):
            for form in ("[]", ""):
                error = f"{option}: {value!r} is not a whole number from 1 to 65535"
                yield f"{option}{form}={value}\n", error
        yield (
            f"{option}[]=25\n{option}[]=x\n",
            f"{option}: 'x' is not a whole number from 1 to 65535",
        )


def _versions() -> Iterator[Row]:
    for option in VERSIONS:
        yield from _scalar(option, f"one of {ALL_VERSIONS}")
        for value in ("TLS1.2", "", "1.2", "TLSv1.4", "SSLv3", "TLSv1.2 TLSv1.3"):
            yield f"{option}={value}\n", f"{option}: {value!r} is not one of {ALL_VERSIONS}"


def _ciphers_and_curves() -> Iterator[Row]:
    for option in ("ciphers", "ecdhCurve"):
        yield from _scalar(option, "one text")
    for value in ("", "AES$", "AES;RSA", "../x"):
        error = f"ciphers: {value!r} is not a list of ciphers in OpenSSL's words"
        yield f"ciphers={value}\n", error
    for value in ("NONESUCH", "!ALL", "TLS_NONE_SUCH"):
        yield f"ciphers={value}\n", f"ciphers: {value!r} leaves OpenSSL no cipher to use"
    for value in ("", "two words", "x=y"):
        yield (
            f"ecdhCurve={value}\n",
            f"ecdhCurve: {value!r} is neither a curve, nor a list such as X25519:prime256v1, nor "
            "auto",
        )
    for value in ("round", "X25519:round", ":", "/"):
        yield f"ecdhCurve={value}\n", f"ecdhCurve: OpenSSL does not know {value!r}"


def _files(options: tuple[str, ...]) -> Iterator[Row]:
    for option in options:
        yield f"{option}\n", f"{option}: has no value; expected {option}[]=... for each entry"
        yield f"{option}=\n", f"{option}: names no file"
        yield f"{option}[]=\n", f"{option}: names no file"
        yield f"{option}=a\tb\n", f"{option}: 'a\\tb' is not the name of a file"
        yield f"{option}=a\0b\n", f"{option}: 'a\\x00b' is not the name of a file"


METHODS = "SSLv23_method, TLS_method, TLSv1_method, TLSv1_1_method, TLSv1_2_method, TLSv1_3_method"


def _methods() -> Iterator[Row]:
    yield from _scalar("secureProtocol", "one text")
    for value in ("SSLv3_method", "SSLv2_method"):
        broken = "SSL 2 and 3 are broken, and OpenSSL has neither"
        yield f"secureProtocol={value}\n", f"secureProtocol: {value!r}: {broken}"
    for value in ("", "TLSv1_2", "method"):
        yield f"secureProtocol={value}\n", f"secureProtocol: {value!r} is not one of {METHODS}"


def _groups() -> Iterator[Row]:
    yield from _scalar("dhparam", "one text")
    for value in ("", "a\tb"):
        yield f"dhparam={value}\n", f"dhparam: {value!r} is not the name of a file"


def _hosts(option: str) -> Iterator[Row]:
    yield f"{option}\n", f"{option}: has no value; expected {option}[]=... for each entry"
    for value in (
        "a b",
        "192.0.2.0/33",
        "300.1.1.1",
        "*.*.example",
        "http://x.example",
        "-x",
        "::g",
    ):
        for form in ("[]", ""):
            yield f"{option}{form}={value}\n", f"{option}: {value!r} is not {HOST}"


def _redis() -> Iterator[Row]:
    for option in ("disable_expiry", "disable_inbound_expiry"):
        yield from _scalar(option, "a number of seconds")
        for value in ("a week", "", "-1", "1e3", "nan", "99999999999"):
            yield f"{option}={value}\n", f"{option}: {value!r} is not a number of seconds"
        error = f"{option}: '9999999999' is more than 315360000 seconds"
        yield f"{option}=9999999999\n", error
    for value in ("redis", "", "0", "65536"):
        yield f"port={value}\n", f"port: {value!r} is not a whole number from 1 to 65535"
    for value in ("", "a b", "a\tb"):
        yield f"host={value}\n", "host: is not the name or address of a host"
    for value in ("first", "", "-1"):
        yield f"db={value}\n", f"db: {value!r} is not a whole number from 0 to 1000000"


NAMES = (
    *(*BOOLEANS, *PORTS, *VERSIONS, *FILES, "ciphers", "ecdhCurve", "force_tls_hosts"),
    *("require_tls_hosts", "dhparam", "secureProtocol", "mutual_tls"),
)


class ValueTests(SynchronousTestCase):
    def load(self, text: str) -> tuple[str, ...]:
        """All that is made of tls.ini. @return: the warnings."""
        config = write_config(self, {"tls.ini": text})
        found = TLSSettings.load(config)
        ServerTLS(found.inbound, "mx.example")
        ClientTLS(found.outbound)
        return config.warnings

    def test_wrong_values(self) -> None:
        """The error says file, section, key, what was found, and what was expected."""
        for text, error in rows():
            with self.assertRaises(ConfigError, msg=text) as refused:
                self.load(text)
            self.assertEqual(str(refused.exception), f"tls.ini {error}", text)

    def test_unknown_names(self) -> None:
        """A name that is misspelt has no effect, and is told with the one that is meant."""
        for name in NAMES:
            wrong = name.upper() if name.islower() else name.lower()
            for misspelt in {wrong, name + "s"} - {"keys", "cas"}:
                (warning,) = self.load(f"{misspelt}=x\n")
                self.assertEqual(
                    warning, f"tls.ini {misspelt}: unknown key; did you mean {name}?", name
                )
        for section in ("inbond", "Inbound", "out bound", "smtpforward", "mutual_auth_host"):
            (warning,) = self.load(f"[{section}]\nkey=x\n")
            self.assertEqual(warning, f"tls.ini [{section}]: unknown section")

    def test_no_options(self) -> None:
        """What is no option at all is told by its line, without a value: it may be a password."""
        for line in ("=x", "[]", "key[]", "a b = secret", "\x7f=secret", "ключ=secret"):
            (warning,) = self.load(f"{line}\n")
            self.assertTrue(warning.startswith("tls.ini line 1: "), warning)
            self.assertNotIn("secret", warning)

    @settings(max_examples=300)
    @given(st.sampled_from(sorted(rows())), st.text(max_size=12), st.integers(0, 200))
    def test_mutated(self, row: Row, text: str, at: int) -> None:
        """Anything put into any of these: settings and contexts, or an error of one line."""
        damaged = row[0][:at] + text + row[0][at:]
        try:
            warnings = self.load(damaged)
        except ConfigError as error:
            warnings = (str(error),)
        for line in warnings:
            self.assertTrue(line.isprintable() and line.startswith("tls.ini"), line)
