"""What Haraka's own tests of TLS are made with, written anew: two tls.ini and a directory."""

from functools import cache

from tests.tls.peers import chain_octets, issued, key_octets, self_signed, with_chain

CIPHERS = (
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
    "ECDHE-RSA-AES256-GCM-SHA384:DHE-RSA-AES128-GCM-SHA256"
)
ONE_CIPHER = "ECDHE-RSA-AES256-GCM-SHA384"
F1 = f"""\
key=tls_key.pem
cert=tls_cert.pem
dhparam=dhparams.pem
ciphers={CIPHERS}
minVersion=TLSv1
rejectUnauthorized=false
requestCert=true
honorCipherOrder=true
requireAuthorized[]=2465
requireAuthorized[]=2587
no_starttls_ports[]=2525

[redis]

[no_tls_hosts]
192.168.1.1
172.16.0.0/16

[outbound]
key=outbound_tls_key.pem
cert=outbound_tls_cert.pem
dhparam=dhparams.pem
ciphers={ONE_CIPHER}
minVersion=TLSv1
rejectUnauthorized=false
requestCert=false
honorCipherOrder=false
force_tls_hosts[]=first.example.com
force_tls_hosts[]=second.example.net
no_tls_hosts[]=127.0.0.2
no_tls_hosts[]=192.168.31.1/24
"""
"""A tls.ini with a word on most options; F2 is none at all."""

LOCAL = issued("haraka.local", kind="RSA")
OUTBOUND = issued("mta.example.com", kind="RSA")
WILD = with_chain("*.example.com")
EC_KEY, EC_CERT = self_signed("mail.haraka.io")


@cache
def directory() -> dict[str, str | bytes]:
    """Files of config/tls: a bundle, one of an EC key, a pair in two files, and a wrong pair."""
    return {
        "tls/haraka.local.pem": key_octets(LOCAL) + chain_octets(LOCAL),
        "tls/ec.pem": EC_KEY + EC_CERT,
        "tls/example.com/_.example.com.key": key_octets(WILD),
        "tls/example.com/example.com.crt": chain_octets(WILD),
        "tls/mismatched.pem": self_signed("other")[0] + self_signed("mismatched.example")[1],
    }


@cache
def files() -> dict[str, str | bytes]:
    """The files that F1 names, besides those that every server here has."""
    return {
        "outbound_tls_key.pem": key_octets(OUTBOUND),
        "outbound_tls_cert.pem": chain_octets(OUTBOUND),
        "smtp.ini": "listen=[::]:25,[::]:2465,[::]:2525,[::]:2587\nsmtps_port=2465\n",
    }
