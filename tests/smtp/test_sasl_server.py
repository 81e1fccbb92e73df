"""The server's side of logging in: the RFCs' own examples, our own client, and nonsense."""

import hmac
from base64 import b64decode, b64encode
from collections.abc import Callable
from hashlib import pbkdf2_hmac, sha256
from typing import Any

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from harakatls.mail.route import Credentials
from harakatls.smtp import sasl
from harakatls.smtp.reply import Reply
from harakatls.smtp.sasl_server import (
    MECHANISMS,
    CertificateQuestion,
    Challenge,
    LoggedIn,
    LoginDenied,
    LoginMalformed,
    PasswordQuestion,
    Surroundings,
)
from harakatls.smtp.scram import ClientFirst, ScramKeys, ScramServer, prepared

KEY = bytes(32)
EXPORTER = bytes(range(32))
AROUND = Surroundings("mx.example", "3rfcNHYJY1ZVvWVs7j", KEY)
BOUND = evolve(AROUND, binding=EXPORTER, binding_offered=True)
PASSWORDS = {"user": "pencil", "joe@a.example": "sesame", "tim": "tanstaaftanstaaf", "Ünal": "ß9"}


def log_in(
    name: str,
    initial: bytes | None,
    *responses: bytes | Callable[[bytes], bytes],
    around: Surroundings = AROUND,
    certificate: str | None = None,
) -> tuple[LoggedIn, list[bytes]]:
    """@return: the end, and the challenges."""
    steps = MECHANISMS[name].steps(initial, around)
    waiting = list(responses)
    challenges: list[bytes] = []
    known: Any = None
    try:
        while True:
            step = steps.send(known)
            if isinstance(step, Challenge):
                challenges.append(step.octets)
                response = waiting.pop(0)
                known = response if isinstance(response, bytes) else response(step.octets)
            elif isinstance(step, PasswordQuestion):
                known = PASSWORDS.get(step.user) == step.password
            elif isinstance(step, CertificateQuestion):
                known = certificate
            else:
                known = PASSWORDS.get(step.user)
                if name.startswith("SCRAM") and known is not None:
                    known = ScramKeys.of(known, b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="), 4096)
    except StopIteration as ended:
        assert not waiting, "the client was not heard out"
        login: LoggedIn = ended.value
        return login, challenges


class VectorTests(SynchronousTestCase):
    def test_scram_sha_256(self) -> None:
        """What is said is what RFC 7677 section 3 prints."""
        around = evolve(AROUND, nonce="%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0")
        keys = ScramKeys.of("pencil", b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="), 4096)
        client = ClientFirst.parse(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO")
        server = ScramServer(client, keys, around.nonce, None)
        self.assertEqual(
            server.first,
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
            "s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        )
        final = (
            b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
            b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        )
        self.assertEqual(server.final(final), "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
        login, _ = log_in(
            "SCRAM-SHA-256", b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO", final, b"", around=around
        )
        self.assertEqual(login, LoggedIn("user"))

    def test_cram_md5(self) -> None:
        """What is said is what RFC 2195 section 2 prints."""
        around = Surroundings("postoffice.reston.mci.net", "1896.697170952", KEY)
        response = b"tim b913a602c7eda7a495b4e6e7334d3890"
        login, challenges = log_in("CRAM-MD5", None, response, around=around)
        self.assertEqual(challenges, [b"<1896.697170952@postoffice.reston.mci.net>"])
        self.assertEqual(login, LoggedIn("tim"))

    def test_plain(self) -> None:
        """RFC 4616 section 4: with and without an authorization id."""
        login, _ = log_in("PLAIN", b"\0tim\0tanstaaftanstaaf")
        self.assertEqual(login, LoggedIn("tim", "tanstaaftanstaaf"))
        self.assertRaises(LoginDenied, log_in, "PLAIN", b"Ursel\0tim\0tanstaaftanstaaf")
        login, _ = log_in("PLAIN", b"tim\0tim\0tanstaaftanstaaf")
        self.assertEqual(login.user, "tim")


class BothSidesTests(SynchronousTestCase):
    def test_our_client(self) -> None:
        """Our two sides understand each other, also beyond ASCII."""
        for user, password in PASSWORDS.items():
            for mechanism in sasl.MECHANISMS:
                client = sasl.Login(mechanism, Credentials(user, password))

                def respond(challenge: bytes, client: sasl.Login = client) -> bytes:
                    return client.response(Reply(334, None, (b64encode(challenge).decode(),)))

                rounds = {"LOGIN": 2, "CRAM-MD5": 1, "SCRAM-SHA-256": 2, "PLAIN": 0}
                responses = [respond] * rounds[mechanism.name]
                login, _ = log_in(mechanism.name, client.initial, *responses)
                client.accepted()
                self.assertEqual(login.user, user)

    def test_prepared(self) -> None:
        """Names and passwords are compared as SASLprep writes them (RFC 4013 section 3)."""
        for text, result in [
            ("I\u00adX", "IX"),
            ("user", "user"),
            ("\u00aa", "a"),
            ("\u2168", "IX"),
        ]:
            self.assertEqual(prepared(text), result)
        self.assertEqual(prepared("x" * 1024), "x" * 1024)
        for text in ("\u0007", "\u0627\u0031", "", "\u00ad", "\ue000", "\x7f", "x" * 1025):
            self.assertRaises(ValueError, prepared, text)
        login, _ = log_in("PLAIN", "\0ti\u00adm\0tanstaaf\u00adtanstaaf".encode())
        self.assertEqual(login.user, "tim")


class BindingTests(SynchronousTestCase):
    """RFC 5802 section 6, RFC 9266."""

    def exchange(
        self, name: str, header: str, data: bytes, around: Surroundings, plain_header: str = ""
    ) -> LoggedIn:
        """A client written once more, which may lie in its last message."""
        bare = "n=user,r=client"

        def last(server_first: bytes) -> bytes:
            nonce, salt, count = (part[2:] for part in server_first.decode().split(","))
            salted = pbkdf2_hmac("sha256", b"pencil", b64decode(salt), int(count))
            client_key = hmac.digest(salted, b"Client Key", "sha256")
            channel = b64encode((plain_header or header).encode() + data).decode()
            without = f"c={channel},r={nonce}"
            message = f"{bare},{server_first.decode()},{without}".encode()
            signature = hmac.digest(sha256(client_key).digest(), message, "sha256")
            proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
            return f"{without},p={b64encode(proof).decode()}".encode()

        login, _ = log_in(name, f"{header}{bare}".encode(), last, b"", around=around)
        return login

    def test_bound(self) -> None:
        """Both ends are those of one channel."""
        login = self.exchange("SCRAM-SHA-256-PLUS", "p=tls-exporter,,", EXPORTER, BOUND)
        self.assertEqual(login.user, "user")
        login = self.exchange("SCRAM-SHA-256-PLUS", "p=tls-exporter,a=user,", EXPORTER, BOUND)
        self.assertEqual(login.user, "user")
        self.assertEqual(self.exchange("SCRAM-SHA-256", "n,,", b"", BOUND).user, "user")
        self.assertEqual(self.exchange("SCRAM-SHA-256", "y,,", b"", AROUND).user, "user")

    def test_not_bound(self) -> None:
        """Somebody is in between, or makes one of us believe that the other cannot do it."""
        for name, header, data, around in [
            ("SCRAM-SHA-256-PLUS", "p=tls-exporter,,", bytes(32), BOUND),
            ("SCRAM-SHA-256-PLUS", "p=tls-exporter,,", b"", BOUND),
            ("SCRAM-SHA-256-PLUS", "p=tls-exporter,,", EXPORTER, AROUND),
            ("SCRAM-SHA-256-PLUS", "p=tls-unique,,", EXPORTER, BOUND),
            ("SCRAM-SHA-256-PLUS", "n,,", b"", BOUND),
            ("SCRAM-SHA-256-PLUS", "y,,", b"", BOUND),
            ("SCRAM-SHA-256", "p=tls-exporter,,", EXPORTER, BOUND),
            ("SCRAM-SHA-256", "y,,", b"", BOUND),
            ("SCRAM-SHA-256", "n,a=root,", b"", BOUND),
        ]:
            self.assertRaises(LoginDenied, self.exchange, name, header, data, around)
        # The header of the last message is not that of the first.
        lied = ("SCRAM-SHA-256", "n,,", b"", AROUND, "y,,")
        self.assertRaises(LoginDenied, self.exchange, *lied)


class BadResponseTests(SynchronousTestCase):
    def test_malformed(self) -> None:
        """What no client of the mechanism sends."""
        for name, initial, responses in [
            ("PLAIN", b"", ()),
            ("PLAIN", None, (b"tim",)),
            ("PLAIN", b"\0\0\0", ()),
            ("PLAIN", b"\0tim\0", ()),
            ("PLAIN", b"\0tim\0\xff", ()),
            ("LOGIN", b"", ()),
            ("LOGIN", None, (b"",)),
            ("LOGIN", b"tim", (b"",)),
            ("LOGIN", b"t\0m", (b"x",)),
            ("LOGIN", b"\xff", (b"x",)),
            ("CRAM-MD5", None, (b"",)),
            ("CRAM-MD5", None, (b"tim",)),
            ("CRAM-MD5", None, (b" " + b"0" * 32,)),
            ("CRAM-MD5", None, (b"tim " + b"0" * 31,)),
            ("CRAM-MD5", None, (b"tim " + b"G" * 32,)),
            ("SCRAM-SHA-256", b"", ()),
            ("SCRAM-SHA-256", b"n,,n=user", ()),
            ("SCRAM-SHA-256", b"n,,n=,r=x", ()),
            ("SCRAM-SHA-256", b"n,,n=us=er,r=x", ()),
            ("SCRAM-SHA-256", b"n,,m=x,n=user,r=x", ()),
            ("SCRAM-SHA-256", b"x,,n=user,r=x", ()),
            ("SCRAM-SHA-256", b"n,,n=user,r=x y", ()),
            ("SCRAM-SHA-256", b"n,,n=\xff,r=x", ()),
            ("SCRAM-SHA-256", b"n,,n=user,r=x", (b"",)),
            ("SCRAM-SHA-256", b"n,,n=user,r=x", (b"c=biws,r=x,p=AAAA",)),
            ("SCRAM-SHA-256", b"n,,n=user,r=x", (b"c=biw,r=x,p=" + b"A" * 43 + b"=",)),
            ("SCRAM-SHA-256", b"n,,n=user,r=x", (b"\xff",)),
            ("EXTERNAL", b"\xff", ()),
        ]:
            self.assertRaises(LoginMalformed, log_in, name, initial, *responses)

    def test_another_nonce(self) -> None:
        """A proof of another conversation proves nothing."""
        final = b"c=biws,r=x,p=" + b64encode(bytes(32))
        problem = self.assertRaises(LoginDenied, log_in, "SCRAM-SHA-256", b"n,,n=user,r=x", final)
        self.assertEqual(problem.user, "user")

    def test_more_after_the_end(self) -> None:
        """SCRAM ends with an empty response."""
        client = sasl.Login(sasl.MECHANISMS[0], Credentials("user", "pencil"))

        def respond(challenge: bytes) -> bytes:
            return client.response(Reply(334, None, (b64encode(challenge).decode(),)))

        arguments = ("SCRAM-SHA-256", client.initial, respond, b"more")
        self.assertRaises(LoginMalformed, log_in, *arguments)

    def test_unprintable(self) -> None:
        """Names and passwords that SASLprep does not allow are nobody's."""
        for octets in (b"\0tim\0a\x07b", b"\0t\x07m\0tanstaaftanstaaf"):
            self.assertRaises(LoginDenied, log_in, "PLAIN", octets)

    def test_external(self) -> None:
        """Without a certificate that is somebody's."""
        self.assertEqual(log_in("EXTERNAL", b"", certificate="tim")[0], LoggedIn("tim"))
        self.assertEqual(log_in("EXTERNAL", None, b"tim", certificate="tim")[0], LoggedIn("tim"))
        self.assertRaises(LoginDenied, log_in, "EXTERNAL", b"")
        for authzid in (b"root", b"\x07"):
            with self.assertRaises(LoginDenied):
                log_in("EXTERNAL", authzid, certificate="tim")

    @given(
        st.sampled_from(sorted(MECHANISMS)),
        st.lists(
            st.binary(max_size=60)
            | st.from_regex(r"(n|y|p=tls-exporter),,n=user,r=[!-+\--~]+", fullmatch=True).map(
                str.encode
            )
            | st.from_regex(r"c=[A-Za-z0-9+/=]+,r=x,p=[A-Za-z0-9+/=]+", fullmatch=True).map(
                str.encode
            ),
            min_size=5,
            max_size=5,
        ),
    )
    def test_anything(self, name: str, responses: list[bytes]) -> None:
        """No response makes anything but a no."""
        with self.assertRaises((LoginMalformed, LoginDenied)):
            log_in(name, *responses, around=BOUND)


class SecrecyTests(SynchronousTestCase):
    def test_nothing_is_shown(self) -> None:
        """Neither passwords nor keys are in what a traceback or log may show."""
        keys = ScramKeys.of("sesame", b"sixteen octets!!", 4096)
        for value in (
            PasswordQuestion("joe", "sesame"),
            LoggedIn("joe", "sesame"),
            keys,
            evolve(BOUND, key=b"sesame"),
        ):
            for secret in ("sesame", repr(keys.stored_key), repr(EXPORTER)):
                self.assertNotIn(secret, repr(value))
