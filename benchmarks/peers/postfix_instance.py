"""Postfix: loopback only, with directories of its own."""

import shutil

from peers.preparing import Place

MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
tlsproxy unix - - n - 0 tlsproxy
scache unix - - n - 1 scache
anvil unix - - n - 1 anvil
"""


def make_instance(place: Place, settings: dict[str, str]) -> list[str]:
    """Write an instance and give the command that starts it."""
    config, queue, data = (place.directory / name for name in ("etc", "spool", "data"))
    for path in (config, queue, data):
        path.mkdir()
        path.chmod(0o755)
    place.directory.chmod(0o755)
    shutil.chown(data, "postfix")
    main = {
        "compatibility_level": "3.7",
        "queue_directory": queue,
        "data_directory": data,
        "inet_interfaces": "127.0.0.1",
        "inet_protocols": "ipv4",
        "myhostname": "peer.test",
        "mynetworks": "127.0.0.0/8",
        "mydestination": "",
        "relay_domains": "sink.test",
        "relay_transport": "discard:",
        "alias_maps": "",
        "alias_database": "",
        "local_transport": "error:no local mail",
        "smtpd_relay_restrictions": "permit_mynetworks, reject",
        "smtpd_tls_security_level": "may",
        "smtpd_tls_chain_files": f"{place.key}, {place.cert}",
        "message_size_limit": "52428800",
        "default_process_limit": "1200",
        "smtpd_client_connection_count_limit": "0",
        "default_database_type": "hash",
        **settings,
    }
    (config / "main.cf").write_text("".join(f"{name} = {value}\n" for name, value in main.items()))
    (config / "master.cf").write_text(MASTER.format(port=place.port))
    return ["postfix", "-c", str(config), "start-fg"]


def discard(place: Place) -> list[str]:
    """Accept mail for sink.test, queue it (Postfix always does), and drop it."""
    return make_instance(place, {})


def _relay_settings(place: Place) -> dict[str, str]:
    concurrency = str(place.options.relay_concurrency)
    return {
        "relay_transport": f"smtp:[127.0.0.1]:{place.sink_port}",
        "smtp_tls_security_level": "encrypt",
        "smtp_tls_session_cache_database": "btree:${data_directory}/smtp_scache",
        "default_destination_concurrency_limit": concurrency,
        "initial_destination_concurrency": concurrency,
    }


def relay(place: Place) -> list[str]:
    """Deliver to the sink over STARTTLS, a connection for each message."""
    return make_instance(place, _relay_settings(place))


def relay_reuse(place: Place) -> list[str]:
    """Deliver to the sink over STARTTLS connections that are used again."""
    return make_instance(place, {**_relay_settings(place), "smtp_tls_connection_reuse": "yes"})
