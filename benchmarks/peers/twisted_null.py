"""Stock twisted.mail.smtp.ESMTP with a null delivery (a benchmark peer)."""

import argparse


def install_reactor(name: str) -> None:
    if name == "epoll":
        from twisted.internet import epollreactor

        epollreactor.install()
        return
    import asyncio

    from twisted.internet import asyncioreactor

    if name == "asyncio-uvloop":
        import uvloop

        asyncioreactor.install(uvloop.new_event_loop())
    else:
        asyncioreactor.install(asyncio.new_event_loop())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--cert", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument(
        "--reactor", default="epoll", choices=["epoll", "asyncio", "asyncio-uvloop"]
    )
    options = parser.parse_args()
    install_reactor(options.reactor)

    from twisted.internet import defer, protocol, reactor, ssl
    from twisted.mail import smtp
    from zope.interface import implementer

    @implementer(smtp.IMessage)
    class NullMessage:
        def lineReceived(self, line):
            pass

        def eomReceived(self):
            return defer.succeed(None)

        def connectionLost(self):
            pass

    @implementer(smtp.IMessageDelivery)
    class NullDelivery:
        def receivedHeader(self, helo, origin, recipients):
            return b"Received: by peer.test"

        def validateFrom(self, helo, origin):
            return origin

        def validateTo(self, user):
            return NullMessage

    with open(options.cert, "rb") as cert, open(options.key, "rb") as key:
        certificate = ssl.PrivateCertificate.loadPEM(key.read() + b"\n" + cert.read())
    context_factory = certificate.options()

    class Factory(protocol.ServerFactory):
        noisy = False

        def buildProtocol(self, addr):
            server = smtp.ESMTP(contextFactory=context_factory)
            server.factory = self
            server.delivery = NullDelivery()
            server.host = b"peer.test"
            return server

    reactor.listenTCP(options.port, Factory(), backlog=4096, interface="127.0.0.1")
    reactor.run()


if __name__ == "__main__":
    main()
