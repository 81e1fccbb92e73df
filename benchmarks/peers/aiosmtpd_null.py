"""An aiosmtpd server that accepts and forgets every message (a benchmark peer)."""

import argparse
import asyncio
import ssl

from aiosmtpd.smtp import SMTP


class NullHandler:
    async def handle_DATA(self, server, session, envelope):
        return "250 OK"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--cert", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--uvloop", action="store_true")
    options = parser.parse_args()

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(options.cert, options.key)
    handler = NullHandler()

    def make_protocol() -> SMTP:
        return SMTP(
            handler,
            hostname="peer.test",
            enable_SMTPUTF8=True,
            tls_context=context,
            loop=asyncio.get_running_loop(),
        )

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(make_protocol, "127.0.0.1", options.port, backlog=4096)
        await server.serve_forever()

    if options.uvloop:
        import uvloop

        uvloop.run(serve())
    else:
        asyncio.run(serve())


if __name__ == "__main__":
    main()
