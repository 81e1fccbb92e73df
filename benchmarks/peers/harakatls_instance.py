"""harakatls: an instance directory of its own, made by `harakatls init` and then told what to do.

Log level and plugins are those that Haraka is measured with: tls, the host list, and a queue that
forgets; `relay`, which we ship switched on, comes on top for us.
"""

import subprocess
from pathlib import Path

from twisted.plugin import getPlugins

from harakatls.interfaces import IPluginFactory
from peers.preparing import Place

DISCARD = ("tls", "relay", "rcpt_to.in_host_list", "queue/discard")
SPOOL = ("tls", "relay", "rcpt_to.in_host_list")

# What a server on the open internet may have switched on at once.
BUNDLED = (
    "toobusy",
    "limit",
    "xclient",
    "status",
    "tarpit",
    "delay_deny",
    "max_unrecognized_commands",
    "tls",
    "relay",
    "aliases",
    "rcpt_to.in_host_list",
    "rcpt_to.max_count",
    "record_envelope_addresses",
    "prevent_credential_leaks",
    "data.signatures",
    "process_title",
    "queue/discard",
)


def make_instance(place: Place, plugins: tuple[str, ...], **files: str) -> list[str]:
    """
    Write an instance and give the command that starts it.

    @param files: more files of the config directory, a dot in a name written as "__".
    """
    programs = Path(place.options.harakatls)
    instance = place.directory / "instance"
    init = [programs / "harakatls", "init", "--host", "peer.test", instance]
    subprocess.run(init, check=True, capture_output=True)
    config = instance / "config"
    written = {
        "smtp.ini": f"listen=127.0.0.1:{place.port}\ninactivity_timeout=300\n",
        "tls.ini": f"key={place.key}\ncert={place.cert}\necdhCurve=auto\n",
        "plugins": "".join(f"{plugin}\n" for plugin in plugins),
        "me": "peer.test\n",
        "host_list": "sink.test\n",
        "log.ini": "[main]\nlevel=warn\n",
        **{name.replace("__", "."): text for name, text in files.items()},
    }
    for name, text in written.items():
        (config / name).write_text(text)
    return [str(programs / "twistd"), "-n", "--pidfile=", "harakatls", "--config", str(config)]


def discard(place: Place) -> list[str]:
    """Accept mail for sink.test and forget it."""
    return make_instance(place, DISCARD)


def bundled(place: Place) -> list[str]:
    """The same with all plugins that are installed and need no other server."""
    installed = {factory.name for factory in getPlugins(IPluginFactory)}
    return make_instance(
        place,
        tuple(name for name in BUNDLED if name in installed),
        data__signatures="a text that is in none of them\n",
        toobusy__maxlag="5000\n",  # on a busy machine it would thin the crowd that is measured
    )


def durable(place: Place) -> list[str]:
    """Accept mail for sink.test, commit it to the spool, and leave it there."""
    return make_instance(place, SPOOL, outbound__ini="[main]\ndisabled=true\n")


def relay(place: Place) -> list[str]:
    """Take mail from loopback for sink.test, own it, and deliver it to the sink over STARTTLS."""
    return routes(
        place,
        {"sink.test": place.sink_port},
        f"[main]\nconcurrency_max={place.options.relay_concurrency}\n",
    )


def routes(place: Place, ports: dict[str, int], outbound_ini: str = "") -> list[str]:
    """Take mail from loopback for some domains, and deliver it to the port of each."""
    hops = [
        f'{domain}={{"action":"accept","nexthop":"127.0.0.1:{port}"}}\n'
        for domain, port in ports.items()
    ]
    return make_instance(
        place,
        SPOOL,
        relay_acl_allow="127.0.0.1/32\n",
        relay__ini="[relay]\nacl=true\nforce_routing=true\ndest_domains=true\n",
        relay_dest_domains__ini="".join(["[domains]\n", *hops]),
        outbound__ini=outbound_ini,
    )
