"""Records of TLS 1.3 made by hand: what OpenSSL would not send for us."""

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from OpenSSL import SSL

CIPHER = "TLS_AES_256_GCM_SHA384"
_HANDSHAKE, _APPLICATION_DATA = 22, 23
_KEY_UPDATE_REQUESTED = b"\x18\x00\x00\x01\x01"  # RFC 8446 section 4.6.3


class RecordWriter:
    """
    Speaks for a client whose handshake is over, and which has not said anything since.

    To be made before the handshake; it must come to `CIPHER`.
    """

    def __init__(self, context: SSL.Context) -> None:
        """@param context: the client's."""
        self._secret = b""
        self._sent = 0
        context.set_keylog_callback(self._learn)

    def _learn(self, _: SSL.Connection, line: bytes) -> None:
        label, _random, secret = line.split()
        if label == b"CLIENT_TRAFFIC_SECRET_0":
            self._secret = bytes.fromhex(secret.decode())

    def data(self, octets: bytes) -> bytes:
        """One record with *octets* in it."""
        return self._record(octets, _APPLICATION_DATA)

    def key_update(self) -> bytes:
        """New keys from here on, and the request that the other side should take new ones too."""
        record = self._record(_KEY_UPDATE_REQUESTED, _HANDSHAKE)
        self._secret, self._sent = self._expand(b"traffic upd", 48), 0
        return record

    def _record(self, content: bytes, kind: int) -> bytes:
        inner = content + bytes([kind])
        header = b"\x17\x03\x03" + (len(inner) + 16).to_bytes(2)
        nonce = int.from_bytes(self._expand(b"iv", 12)) ^ self._sent
        self._sent += 1
        key = AESGCM(self._expand(b"key", 32))
        return header + key.encrypt(nonce.to_bytes(12), inner, header)

    def _expand(self, label: bytes, octets: int) -> bytes:
        """HKDF-Expand-Label of RFC 8446 section 7.1, without a context."""
        name = b"tls13 " + label
        info = octets.to_bytes(2) + bytes([len(name)]) + name + b"\x00"
        return HKDFExpand(SHA384(), octets, info).derive(self._secret)
