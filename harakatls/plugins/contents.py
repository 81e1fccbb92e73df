"""What is said in a message, with its encodings taken off, for plugins that look for words."""

import sys
from collections.abc import Callable, Iterator
from email import message_from_bytes
from email.errors import MessageError
from email.message import Message
from typing import Any

from harakatls.interfaces import IStagedMessage
from harakatls.plugins.few_threads import FewThreads
from harakatls.plugins.files import CallInThread

CHUNK = 65536
AT_A_TIME = 2
"""So many messages are in memory as a whole; others wait for their turn."""

LOOKED_INTO = 4 << 20
"""So many octets of a message, from its start, are searched for parts that are encoded."""

MOST_MULTIPARTS = 50
"""With more parts within parts, each line of a message would be compared with too many ends."""


class Contents:
    """Reads messages as a whole, a few at a time, and looks at them in a thread."""

    def __init__(self, call_in_thread: CallInThread) -> None:
        self._call_in_thread = call_in_thread
        self._turns = FewThreads(call_in_thread, AT_A_TIME)

    async def ask(self, message: IStagedMessage, question: Callable[[list[bytes]], Any]) -> Any:
        """
        @param question: asked in a thread, about the message as it came and the parts of its
            body without their encodings.
        @return: its answer.
        """

        async def steps() -> Any:
            octets = await read_message(message)
            return await self._call_in_thread(lambda: question([octets, *decoded_parts(octets)]))

        return await self._turns.work(steps)


async def read_message(message: IStagedMessage, most: int = sys.maxsize) -> bytes:
    """@param most: so many octets of it, from its start."""
    chunks: list[bytes] = []
    body = message.open()
    try:
        while most > 0 and (chunk := await body.read(min(CHUNK, most))):
            chunks.append(chunk)
            most -= len(chunk)
    finally:
        body.close()
    return b"".join(chunks)


def decoded_parts(octets: bytes) -> Iterator[bytes]:
    """
    The leaves of a message whose encoding hides what they say; raises nothing.

    @param octets: anything; what is no MIME, or is made to be costly, has no parts.
    """
    beginning = octets[:LOOKED_INTO]
    if beginning.lower().count(b"multipart/") > MOST_MULTIPARTS:
        return
    try:
        for part in message_from_bytes(beginning).walk():
            if isinstance(part, Message) and _is_encoded(part):
                payload = part.get_payload(decode=True)
                if isinstance(payload, bytes):
                    yield payload
    except (RecursionError, MessageError, LookupError, ValueError):
        return  # parts within parts without end, or worse: it is looked at as it came


def _is_encoded(part: Message) -> bool:
    encoding = str(part.get("content-transfer-encoding", "")).strip().lower()
    return encoding in ("base64", "quoted-printable", "x-uuencode", "uuencode", "uue", "x-uue")
