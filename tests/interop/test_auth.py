"""Other people's clients log in to the running server, by every mechanism they know."""

import ctypes.util
import json
import socket
import subprocess
from base64 import b64encode
from pathlib import Path
from typing import ClassVar

from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from tests.support import DEFAULT_PLUGINS, Certificates, Instance, lacking, need
from tests.wire.test_auth import PASSWORD, set_password

HERE = Path(__file__).resolve().parent
JOE, ANN = "joe@mx.test", "ann@mx.test"  # Joe's password is kept as keys for SCRAM, Ann's as it is
USERS = "[core]\nmethods=PLAIN,LOGIN,CRAM-MD5,SCRAM-SHA-256\n[certificates]\nprinter.mx.test={}\n"
ELSEWHERE = "x@elsewhere.test"  # only who has logged in may send there
TEXT = f"From: {JOE}\nSubject: m\n\nHello\n"

Done = subprocess.CompletedProcess[str]


class LoginCase(SynchronousTestCase):
    """One server for all tests of a client: none of them leaves anything behind but mail."""

    peers: ClassVar[tuple[str, ...]] = ()

    def setUp(self) -> None:
        need(*self.peers)
        self.certificates = Certificates()
        plugins = DEFAULT_PLUGINS.replace("relay\n", "relay\nauth/flat_file\n")
        files = {
            "plugins": plugins,
            "auth_flat_file.ini": USERS.format(JOE),
            "tls.ini": "ca=authority.pem\n",
        }
        self.instance = Instance.make("mx.test", files=files, certificates=self.certificates)
        self.certificates.write_authority(self.instance.config / "authority.pem")
        self.addCleanup(self.instance.remove)
        set_password(self.instance, JOE)
        set_password(self.instance, ANN, "--kind", "plain")
        self.instance.start()

    def run_peer(self, *command: str, said: str = "") -> Done:
        return subprocess.run(command, input=said, capture_output=True, text=True, timeout=60)

    def check(self, done: Done, user: str, mechanism: str) -> None:
        """It went well, and the log says how."""
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr + self.instance.log())
        self.assertIn(f"logged in as '{user}' by {mechanism}\n", self.instance.log())

    def check_refused(self, done: Done, mechanism: str) -> None:
        """It did not, for the right reason."""
        self.assertNotEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn(f"failed to log in as '{JOE}' by {mechanism}\n", self.instance.log())


class SwaksTests(LoginCase):
    peers = ("swaks",)

    def swaks(self, mechanism: str, user: str, password: str = PASSWORD) -> Done:
        command = ["swaks", "--server", f"127.0.0.1:{self.instance.port}", "--tls"]
        command += ["--auth", mechanism, "--auth-user", user, "--auth-password", password]
        command += ["--from", user, "--to", ELSEWHERE, "--ehlo", "client.test", "--quit-after"]
        return self.run_peer(*command, "RCPT")

    def test_mechanisms(self) -> None:
        """PLAIN, LOGIN and CRAM-MD5; a wrong password is a no."""
        ssleay = ["perl", "-MNet::SSLeay", "-e", "1"]
        if subprocess.run(ssleay, capture_output=True).returncode:
            need("perl module Net::SSLeay")
        self.check(self.swaks("PLAIN", JOE), JOE, "PLAIN")
        self.check(self.swaks("LOGIN", JOE), JOE, "LOGIN")
        digest = ["perl", "-MDigest::MD5", "-e", "1"]
        if not subprocess.run(digest, capture_output=True).returncode:
            self.check(self.swaks("CRAM-MD5", ANN), ANN, "CRAM-MD5")
        self.check_refused(self.swaks("PLAIN", JOE, "guess"), "PLAIN")


class MsmtpTests(LoginCase):
    """By GnuTLS and GNU SASL."""

    peers = ("msmtp",)

    def msmtp(self, mechanism: str, user: str, *more: str, password: str = PASSWORD) -> Done:
        command = ["msmtp", "--host=127.0.0.1", f"--port={self.instance.port}", "--tls=on"]
        command += [f"--tls-trust-file={self.instance.authority}", f"--from={JOE}"]
        command += [f"--auth={mechanism}", f"--user={user}", f"--passwordeval=echo '{password}'"]
        return self.run_peer(*command, "--timeout=40", *more, ELSEWHERE, said=TEXT)

    def test_mechanisms(self) -> None:
        """PLAIN, LOGIN, CRAM-MD5 and SCRAM-SHA-256."""
        for name in ("plain", "login", "scram-sha-256"):
            self.check(self.msmtp(name, JOE), JOE, name.upper())
        for name in ("cram-md5", "scram-sha-256"):
            self.check(self.msmtp(name, ANN), ANN, name.upper())
        self.check_refused(self.msmtp("scram-sha-256", JOE, password="guess"), "SCRAM-SHA-256")

    def test_external(self) -> None:
        """A certificate in place of a password."""
        pair = self.certificates.authority.issue_cert("printer.mx.test")
        cert, key = self.instance.directory / "client.pem", self.instance.directory / "key.pem"
        cert.write_bytes(b"".join(blob.bytes() for blob in pair.cert_chain_pems))
        pair.private_key_pem.write_to_path(key)
        key.chmod(0o600)
        done = self.msmtp("external", JOE, f"--tls-cert-file={cert}", f"--tls-key-file={key}")
        self.check(done, JOE, "EXTERNAL")


class GNUSASL:
    """One login by libgsasl, which msmtp has brought along."""

    AUTHID, PASSWORD, CB_TLS_EXPORTER = 1, 3, 25  # Gsasl_property
    OK, NEEDS_MORE = 0, 1

    def __init__(self, mechanism: str, **properties: bytes) -> None:
        name = ctypes.util.find_library("gsasl")
        if name is None:
            need("libgsasl")
        self._library = ctypes.CDLL(name)
        self._context, self._session = ctypes.c_void_p(), ctypes.c_void_p()
        assert self._library.gsasl_init(ctypes.byref(self._context)) == self.OK
        begun = self._library.gsasl_client_start(
            self._context, mechanism.encode(), ctypes.byref(self._session)
        )
        assert begun == self.OK, begun
        for key, value in properties.items():
            self._library.gsasl_property_set(self._session, getattr(self, key), value)

    def step(self, challenge: str) -> str:
        """Both in base64. It raises where it does not believe the server."""
        answer = ctypes.c_char_p()
        status = self._library.gsasl_step64(self._session, challenge.encode(), ctypes.byref(answer))
        assert status in (self.OK, self.NEEDS_MORE), status
        return (answer.value or b"").decode()


class GNUSASLTests(LoginCase):
    """The second implementation of channel binding."""

    peers = ("msmtp",)

    def connect(self, version: int) -> tuple[SSL.Connection, bytes]:
        """@return: the connection after EHLO inside of TLS, and its binding."""
        peer = socket.create_connection(("127.0.0.1", self.instance.smtps_port), timeout=20)
        peer.settimeout(None)  # pyOpenSSL's connections want to wait by themselves
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_max_proto_version(version)
        client = SSL.Connection(context, peer)
        self.addCleanup(client.close)
        client.set_connect_state()
        client.do_handshake()
        assert client.recv(4000).startswith(b"220 ")
        self.assertIn("SCRAM-SHA-256-PLUS", self.say(client, "EHLO client.test"))
        binding = client.export_keying_material(b"EXPORTER-Channel-Binding", 32, b"")
        return client, binding

    def say(self, client: SSL.Connection, line: str) -> str:
        client.sendall(f"{line}\r\n".encode())
        answer: str = client.recv(4000).decode()
        return answer

    def log_in(self, client: SSL.Connection, binding: bytes, password: str) -> str:
        """@return: the server's last word."""
        login = GNUSASL(
            "SCRAM-SHA-256-PLUS",
            AUTHID=JOE.encode(),
            PASSWORD=password.encode(),
            CB_TLS_EXPORTER=b64encode(binding),
        )
        answer = self.say(client, f"AUTH SCRAM-SHA-256-PLUS {login.step('')}")
        while answer.startswith("334 "):
            answer = self.say(client, login.step(answer[4:].strip()))
        return answer

    def test_bound(self) -> None:
        """Over TLS 1.3 and TLS 1.2; not with another password, nor over another connection."""
        for version in (SSL.TLS1_3_VERSION, SSL.TLS1_2_VERSION):
            client, binding = self.connect(version)
            self.assertEqual(self.log_in(client, binding, PASSWORD)[:4], "235 ")
        client, _ = self.connect(SSL.TLS1_3_VERSION)
        self.assertEqual(self.log_in(client, binding, PASSWORD)[:4], "535 ")
        client, binding = self.connect(SSL.TLS1_3_VERSION)
        self.assertEqual(self.log_in(client, binding, "guess")[:4], "535 ")
        log = self.instance.log()
        self.assertEqual(log.count(f"logged in as '{JOE}' by SCRAM-SHA-256-PLUS\n"), 2)
        self.assertEqual(log.count(f"failed to log in as '{JOE}' by SCRAM-SHA-256-PLUS\n"), 2)


class NodemailerTests(LoginCase):
    peers = ("node",)

    def test_mechanisms(self) -> None:
        """Nodemailer logs in with PLAIN, LOGIN and CRAM-MD5."""
        if not (HERE / "node_modules/nodemailer").exists():
            lacking("nodemailer (make interop installs it)")
        for name, user in (("PLAIN", JOE), ("LOGIN", JOE), ("CRAM-MD5", ANN)):
            task = {
                "host": "127.0.0.1",
                "port": self.instance.port,
                "secure": False,
                "ca": str(self.instance.authority),
                "servername": "mx.test",
                "from": user,
                "to": ELSEWHERE,
                "raw": TEXT,
                "auth": {"user": user, "pass": PASSWORD},
                "authMethod": name,
            }
            script = str(HERE / "nodemailer_send.js")
            self.check(self.run_peer("node", script, json.dumps(task)), user, name)
