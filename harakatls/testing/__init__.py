"""
For tests, ours and those of plugin authors: values to start from, a DNS of their own, and SMTP
servers in memory that follow a script. No sockets, no threads, no waiting.

A plugin's hook is asked with values made here (`testing.values`)::

    verdict = self.successResultOf(
        Deferred.fromCoroutine(plugin.rcpt(connection(), transaction(), recipient("bob@a.example")))
    )

A delivery is played through between a client and servers that exist in memory alone
(`testing.network`, `testing.peers`)::

    network = MemoryNetwork(Clock())
    network.serve("192.0.2.1", ObligingPeer(RCPT="550 5.1.1 No such user"))
    ... hand in network.connect where connections are made; then network.flush()
"""
