"""Logging in: right answers to right challenges, and none to others."""

import hmac
from base64 import b64encode

from hypothesis import given, settings, strategies
from scramp import ScramMechanism
from twisted.trial.unittest import SynchronousTestCase

from harakatls.mail.route import Credentials
from harakatls.smtp.reply import Reply
from harakatls.smtp.sasl import MECHANISMS, Login, LoginBroken, choose, encoded

BOB = Credentials("bob", "s3cret")
ALL = "LOGIN PLAIN CRAM-MD5 SCRAM-SHA-256"


def challenge(octets: bytes) -> Reply:
    """As a server sends it."""
    return Reply(334, None, (b64encode(octets).decode(),))


def login(name: str, credentials: Credentials = BOB) -> Login:
    """With the mechanism of that name."""
    mechanism = choose(ALL, name)
    assert mechanism is not None
    return Login(mechanism, credentials)


class ChoiceTests(SynchronousTestCase):
    def test_order(self) -> None:
        """The password goes over the wire only where the server knows nothing better."""
        for offered, name in (
            ("LOGIN PLAIN CRAM-MD5 SCRAM-SHA-256", "SCRAM-SHA-256"),
            ("LOGIN PLAIN CRAM-MD5", "CRAM-MD5"),
            ("login plain", "PLAIN"),
            ("LOGIN GSSAPI", "LOGIN"),
        ):
            chosen = choose(offered)
            assert chosen is not None
            self.assertEqual(chosen.name, name)
        self.assertIs(choose("GSSAPI XOAUTH2"), None)
        self.assertIs(choose(""), None)

    def test_only_the_wanted_one(self) -> None:
        """Where the operator names one, no other is used in its place."""
        self.assertIs(choose("PLAIN LOGIN", "SCRAM-SHA-256"), None)
        chosen = choose(ALL, "PLAIN")
        assert chosen is not None
        self.assertEqual(chosen.name, "PLAIN")


class SimpleTests(SynchronousTestCase):
    def test_plain(self) -> None:
        """RFC 4616 section 2, in UTF-8."""
        self.assertEqual(login("PLAIN").initial, b"\0bob\0s3cret")
        unusual = login("PLAIN", Credentials("jürgen", "grüße"))
        self.assertEqual(unusual.initial, "\0jürgen\0grüße".encode())

    def test_plain_refuses_nul(self) -> None:
        """A NUL would make another user of it."""
        with self.assertRaises(LoginBroken):
            login("PLAIN", Credentials("bob\0root", "x"))

    def test_login(self) -> None:
        """User name, then password, whatever the questions are."""
        talk = login("LOGIN")
        self.assertIs(talk.initial, None)
        self.assertEqual(talk.response(challenge(b"Username:")), b"bob")
        self.assertEqual(talk.response(challenge(b"Password:")), b"s3cret")
        talk.accepted()

    def test_cram_md5(self) -> None:
        """The example of RFC 2195 section 2."""
        talk = login("CRAM-MD5", Credentials("tim", "tanstaaftanstaaf"))
        said = talk.response(challenge(b"<1896.697170952@postoffice.reston.mci.net>"))
        self.assertEqual(said, b"tim b913a602c7eda7a495b4e6e7334d3890")

    def test_a_third_question(self) -> None:
        """A server that goes on asking is not answered for ever; nor one that asks behind PLAIN."""
        talk = login("LOGIN")
        talk.response(challenge(b"1"))
        talk.response(challenge(b"2"))
        self.assertRaises(LoginBroken, talk.response, challenge(b"3"))
        self.assertRaises(LoginBroken, login("PLAIN").response, challenge(b""))


class ChallengeTests(SynchronousTestCase):
    def test_no_base64(self) -> None:
        """A challenge that is none ends the login, with what is wrong and nothing of ours."""
        for lines, told in (
            (("not base64!",), "not base64"),
            (("A" * 20_000,), "longer than"),
            (("QQ==", "QQ=="), "several lines"),
            (("ü",), "not base64"),
        ):
            talk = login("CRAM-MD5")
            with self.assertRaises(LoginBroken) as raised:
                talk.response(Reply(334, None, lines))
            self.assertIn(told, str(raised.exception))

    @settings(max_examples=300)
    @given(
        strategies.sampled_from(MECHANISMS),
        strategies.lists(
            strategies.one_of(
                strategies.text(max_size=60).map(lambda text: Reply(334, None, (text,))),
                strategies.binary(max_size=60).map(challenge),
                strategies.from_regex(r"r=\w*,s=\w{1,16},i=\d{1,12}", fullmatch=True).map(
                    lambda text: challenge(text.encode())
                ),
            ),
            max_size=6,
        ),
    )
    def test_anything(self, mechanism: object, replies: list[Reply]) -> None:
        """Whatever comes: a response, or LoginBroken, which never holds the password."""
        assert mechanism in MECHANISMS
        talk = Login(mechanism, BOB)
        try:
            for reply in replies:
                self.assertIsInstance(talk.response(reply), bytes)
        except LoginBroken as problem:
            self.assertNotIn(BOB.password, str(problem))


class ScramTests(SynchronousTestCase):
    """Against scramp's server, which is not the code that answers."""

    def setUp(self) -> None:
        mechanism = ScramMechanism("SCRAM-SHA-256")
        self.known = mechanism.make_auth_info(BOB.password)
        self.server = mechanism.make_server(lambda user: self.known if user == "bob" else None)

    def first(self, talk: Login) -> str:
        assert talk.initial is not None
        self.server.set_client_first(talk.initial.decode())
        text: str = self.server.get_server_first()
        return text

    def test_login(self) -> None:
        """Both sides know the password; neither has said it."""
        talk = login("SCRAM-SHA-256")
        final = talk.response(challenge(self.first(talk).encode()))
        self.server.set_client_final(final.decode())
        self.assertEqual(talk.response(challenge(self.server.get_server_final().encode())), b"")
        talk.accepted()
        self.assertNotIn(b"s3cret", (talk.initial or b"") + final)

    def test_a_server_that_proves_nothing(self) -> None:
        """235 right behind our proof: whoever that is, it is not who knows the password."""
        talk = login("SCRAM-SHA-256")
        talk.response(challenge(self.first(talk).encode()))
        self.assertRaises(LoginBroken, talk.accepted)
        self.assertRaises(LoginBroken, login("SCRAM-SHA-256").accepted)

    def test_a_wrong_signature(self) -> None:
        """A server that does not know the password is found out."""
        talk = login("SCRAM-SHA-256")
        talk.response(challenge(self.first(talk).encode()))
        wrong = b64encode(hmac.digest(b"x", b"y", "sha256")).decode()
        with self.assertRaises(LoginBroken) as raised:
            talk.response(challenge(f"v={wrong}".encode()))
        self.assertIn("signature", str(raised.exception))

    def test_another_nonce(self) -> None:
        """An answer to somebody else's login is not taken for one to ours."""
        talk = login("SCRAM-SHA-256")
        self.first(talk)
        salt = b64encode(bytes(16)).decode()
        self.assertRaises(LoginBroken, talk.response, challenge(f"r=x1,s={salt},i=4096".encode()))

    def test_endless_work(self) -> None:
        """A server that wants ten million rounds of hashing holds up no mail."""
        for rounds in ("10000000", "1000001", "9" * 30):
            talk = login("SCRAM-SHA-256")
            nonce = (talk.initial or b"").decode().partition("r=")[2]
            text = f"r={nonce}x,s={b64encode(bytes(16)).decode()},i={rounds}"
            with self.assertRaises(LoginBroken) as raised:
                talk.response(challenge(text.encode()))
            self.assertIn("iterations", str(raised.exception))

    def test_a_password_that_cannot_be_prepared(self) -> None:
        """RFC 4013 forbids some characters: that is told, without the password."""
        with self.assertRaises(LoginBroken) as raised:
            login("SCRAM-SHA-256", Credentials("bob", "bell\x07"))
        self.assertNotIn("bell", str(raised.exception))


class EncodingTests(SynchronousTestCase):
    def test_base64(self) -> None:
        """One line, however long."""
        self.assertEqual(encoded(b"bob"), "Ym9i")
        self.assertNotIn("\n", encoded(bytes(1000)))
