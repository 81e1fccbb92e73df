"""
SCRAM-SHA-256 on the server's side (RFC 5802, RFC 7677): what is kept of a password, and the
messages.

SASLprep is scramp's, and its client is what the tests speak to. Its server knows no tls-exporter
(RFC 9266), so the messages are read here.
"""

import binascii
import hmac
import re
from base64 import b64decode, b64encode
from hashlib import pbkdf2_hmac, sha256

from attrs import field, frozen
from scramp import ScramException
from scramp.utils import saslprep

ITERATIONS = 100_000
"""For new keys, so that whoever steals them has something to do; clients pay it at each login."""
FEWEST_ITERATIONS = 4096  # RFC 7677 section 4
MOST_ITERATIONS = 1_000_000
SALT_OCTETS = 16
KEY_OCTETS = 32
LONGEST = 1024  # characters of a name or password: more would only keep us busy
TLS_EXPORTER = "tls-exporter"

# RFC 5802 section 7. Mandatory extensions (m=) would stand before the name, and there are none.
_CLIENT_FIRST = re.compile(
    r"((n|y|p=([A-Za-z0-9.-]+)),(?:a=([^,\0]+))?,)(n=([^,\0]+),r=([!-+\--~]+)(?:,[^\0]*)?)"
)
_CLIENT_FINAL = re.compile(
    r"(c=([A-Za-z0-9+/=]+),r=([!-+\--~]+)(?:,[A-Za-z]=[^,\0]+)*),p=([A-Za-z0-9+/=]+)"
)
_BAD_ESCAPE = re.compile(r"=(?!2C|3D)")


def prepared(text: str) -> str:
    """
    A user's name or password as it is compared (SASLprep, RFC 4013).

    @raise ValueError: it holds what neither may hold, nothing is left of it, or it is longer than
        LONGEST characters.
    """
    if len(text) > LONGEST:
        raise ValueError(f"it is longer than {LONGEST} characters")
    try:
        # Printable ASCII is what it is; to look that up takes a thousand times as long.
        result: str = text if text.isascii() and text.isprintable() else saslprep(text)
    except ScramException:
        result = ""
    if not result:
        raise ValueError("SASLprep (RFC 4013) does not allow it")
    return result


@frozen
class ScramKeys:
    """
    What a server keeps of a password: enough to check it, not to log in elsewhere.

    @ivar is_pretended: they are of no password.
    """

    salt: bytes
    iterations: int
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)
    is_pretended: bool = False

    @classmethod
    def of(cls, password: str, salt: bytes, iterations: int = ITERATIONS) -> "ScramKeys":
        """
        Takes long, on purpose.

        @raise ValueError: it cannot be a password.
        """
        # RFC 5802 section 3. scramp would refuse a salt that is short, as others' files have them.
        salted = pbkdf2_hmac("sha256", prepared(password).encode(), salt, iterations)
        stored = sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
        return cls(salt, iterations, stored, hmac.digest(salted, b"Server Key", "sha256"))

    @classmethod
    def pretended(
        cls, user: str, key: bytes, salt: int = SALT_OCTETS, iterations: int = ITERATIONS
    ) -> "ScramKeys":
        """
        For a user who is not there, the same ones each time, so that nobody is told so.

        @param key: known to nobody.
        @param salt: octets of it, as the others have them.
        """

        def octets(purpose: str) -> bytes:
            return hmac.digest(key, f"{purpose} {user}".encode(), "sha256")

        return cls(octets("salt")[:salt], iterations, octets("stored"), octets("server"), True)

    def fit(self, password: str) -> bool:
        """Are they of this password? Takes as long as to make them."""
        try:
            others = ScramKeys.of(password, self.salt, self.iterations)
        except ValueError:
            return False
        return hmac.compare_digest(others.stored_key, self.stored_key)


@frozen
class ClientFirst:
    """
    The client's first message.

    @ivar header: the GS2 header, which the last message repeats.
    @ivar flag: "n" (no channel binding), "y" (the client knows it, but thinks that we do not), or
        "p" with the name of its kind in *binding*.
    @ivar bare: the message without the header.
    """

    header: str
    flag: str
    binding: str
    authzid: str
    user: str
    nonce: str
    bare: str

    @classmethod
    def parse(cls, octets: bytes) -> "ClientFirst":
        """@raise ValueError: it is none."""
        found = _CLIENT_FIRST.fullmatch(octets.decode("utf-8"))
        if found is None:
            raise ValueError("this is not a first message of SCRAM")
        header, flag, binding, authzid, bare, user, nonce = found.groups("")
        return cls(header, flag[0], binding, _name(authzid), _name(user), nonce, bare)


def _name(text: str) -> str:
    if _BAD_ESCAPE.search(text):
        raise ValueError("in a name of SCRAM = is written =3D")
    return text.replace("=2C", ",").replace("=3D", "=")


class ScramServer:
    """
    From the first message on.

    @ivar first: what we say to the client's first message.
    """

    def __init__(
        self, client: ClientFirst, keys: ScramKeys, nonce: str, binding: bytes | None
    ) -> None:
        """
        @param nonce: ours; random.
        @param binding: what the channel is known by, where the client binds itself to it.
        """
        self._client = client
        self._keys = keys
        self._nonce = client.nonce + nonce
        self._binding = client.header.encode() + (binding or b"")
        salt = b64encode(keys.salt).decode()
        self.first = f"r={self._nonce},s={salt},i={keys.iterations}"

    def final(self, octets: bytes) -> str | None:
        """
        What we say to the client's last message; None where it does not know the password, or is
        not at the other end of this channel.

        @raise ValueError: it is none.
        """
        found = _CLIENT_FINAL.fullmatch(octets.decode("utf-8"))
        if found is None:
            raise ValueError("this is not a last message of SCRAM")
        without_proof, channel, nonce, proof = found.groups()
        message = f"{self._client.bare},{self.first},{without_proof}".encode()
        stored = self._keys.stored_key
        signature = hmac.digest(stored, message, "sha256")
        client_key = _xor(_from_base64(proof), signature)
        is_right = hmac.compare_digest(sha256(client_key).digest(), stored)
        is_bound = hmac.compare_digest(_from_base64(channel), self._binding)
        if not (is_right and is_bound and nonce == self._nonce):
            return None
        verifier = hmac.digest(self._keys.server_key, message, "sha256")
        return f"v={b64encode(verifier).decode()}"


def _from_base64(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError("this is not base64") from None


def _xor(one: bytes, other: bytes) -> bytes:
    if len(one) != len(other):
        raise ValueError("the proof has not the length of the hash")
    return bytes(a ^ b for a, b in zip(one, other, strict=True))
