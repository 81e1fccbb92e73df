"""The names of cipher suites: OpenSSL has its own for TLS 1.2, others go by IANA's registry."""

import re

_KEY_EXCHANGES = {
    "": "RSA",
    "ADH": "DH_anon",
    "AECDH": "ECDH_anon",
    "DHE-DSS": "DHE_DSS",
    "DHE-PSK": "DHE_PSK",
    "DHE-RSA": "DHE_RSA",
    "ECDHE": "ECDHE_RSA",  # with ARIA alone
    "ECDHE-ECDSA": "ECDHE_ECDSA",
    "ECDHE-PSK": "ECDHE_PSK",
    "ECDHE-RSA": "ECDHE_RSA",
    "PSK": "PSK",
    "RSA-PSK": "RSA_PSK",
    "SRP": "SRP_SHA",
    "SRP-DSS": "SRP_SHA_DSS",
    "SRP-RSA": "SRP_SHA_RSA",
}
_SUITE = re.compile(
    r"(?:(?P<exchange>[A-Z]+(?:-(?:DSS|ECDSA|PSK|RSA))?)-)??"
    r"(?P<cipher>(?:AES-?|ARIA|CAMELLIA)(?:128|256)|CHACHA20|DES-CBC3|IDEA|NULL|RC4|SEED)"
    r"(?:-(?P<mode>CBC|CCM|CCM8|GCM|POLY1305))?"
    r"(?:-(?P<hash>MD5|SHA|SHA256|SHA384))?\Z"
)
_WITH_KEY_SIZE = re.compile(r"([A-Z]+)-?(\d+)\Z")
_CIPHERS = {"DES-CBC3": "3DES_EDE", "NULL": "NULL", "RC4": "RC4_128"}
_STREAMS = ("NULL", "RC4_128")
_MODES = {"CCM8": "CCM_8"}


def registered_name(suite: str) -> str:
    """
    The name in IANA's registry of TLS cipher suites, as RFC 8314 section 4.3 wants it.

    @param suite: as OpenSSL has it, C{ECDHE-RSA-AES256-GCM-SHA384}; its names for TLS 1.3 are the
        registered ones.
    @return: such as C{TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384}; *suite* itself if it is none that is
        known.
    """
    parts = _SUITE.match(suite)
    exchange = None if parts is None else _KEY_EXCHANGES.get(parts["exchange"] or "")
    if parts is None or exchange is None:
        return suite
    if parts["cipher"] == "CHACHA20":  # OpenSSL leaves out the only hash there is for it
        return f"TLS_{exchange}_WITH_CHACHA20_POLY1305_SHA256"
    cipher = _CIPHERS.get(parts["cipher"]) or _WITH_KEY_SIZE.sub(r"\1_\2", parts["cipher"])
    mode = None if cipher in _STREAMS else parts["mode"] or "CBC"
    if (exchange, mode) == ("DHE_PSK", "CCM8"):
        exchange = "PSK_DHE"  # the registry has it the other way round here alone (RFC 6655)
    words = (exchange, "WITH", cipher, _MODES.get(mode or "", mode), parts["hash"])
    return "_".join(("TLS", *filter(None, words)))
