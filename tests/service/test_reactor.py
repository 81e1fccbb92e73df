"""Tests of the reactor: pipes, no ports, and one turn at a time."""

import os
from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from harakatls.service.reactor import LeanEPollReactor


class Reader(FileDescriptor):
    """Reads a pipe, and remembers."""

    def __init__(self, reactor: Any, test: SynchronousTestCase) -> None:
        super().__init__(reactor)
        self.test = test
        self.descriptor, self.other_end = os.pipe()
        test.addCleanup(self.shut, self.descriptor)
        test.addCleanup(self.shut, self.other_end)
        self.read: list[bytes] = []
        self.lost: list[Failure] = []
        self.answer: BaseException | None = None
        self.failure: BaseException | None = None
        self.connected = 1
        self.startReading()
        test.addCleanup(reactor.removeReader, self)

    def shut(self, descriptor: int) -> None:
        try:
            os.close(descriptor)
        except OSError:
            pass

    def send(self, octets: bytes = b"x") -> None:
        os.write(self.other_end, octets)

    def fileno(self) -> int:
        return self.descriptor

    def doRead(self) -> BaseException | None:
        self.read.append(os.read(self.descriptor, 100))
        if self.failure is not None:
            raise self.failure
        return self.answer

    def connectionLost(self, reason: Failure) -> None:
        super().connectionLost(reason)
        self.lost.append(reason)


class LeanEPollReactorTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor: Any = LeanEPollReactor()
        self.addCleanup(self.reactor._poller.close)

    def reader(self) -> Reader:
        return Reader(self.reactor, self)

    def test_read(self) -> None:
        """What comes in is read, and nothing else is called."""
        one, other = self.reader(), self.reader()
        one.send(b"hello")
        self.reactor.doIteration(0)
        self.assertEqual((one.read, other.read), ([b"hello"], []))
        self.reactor.doIteration(0)
        self.assertEqual(one.read, [b"hello"])

    def test_end(self) -> None:
        """What says that it is at its end is told so, and not asked again."""
        reader = self.reader()
        reader.answer = ConnectionDone()
        reader.send()
        self.reactor.doIteration(0)
        self.assertEqual([type(reason.value) for reason in reader.lost], [ConnectionDone])
        reader.send()
        self.reactor.doIteration(0)
        self.assertEqual(len(reader.read), 1)

    def test_hangup(self) -> None:
        """A peer that goes away is noticed."""
        reader = self.reader()
        os.close(reader.other_end)
        self.reactor.doIteration(0)
        self.assertEqual(len(reader.lost), 1)

    def test_exception(self) -> None:
        """A mistake in one connection closes that one; the others go on in the same turn."""
        wrong, right = self.reader(), self.reader()
        wrong.failure = ValueError("odd")
        wrong.send()
        right.send()
        self.reactor.doIteration(0)
        self.assertEqual([type(reason.value) for reason in wrong.lost], [ValueError])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual(right.read, [b"x"])

    def test_exception_at_the_end(self) -> None:
        """Nor does a mistake made when a connection has ended harm others."""
        wrong, right = self.reader(), self.reader()
        wrong.answer = ConnectionDone()

        def fail(reason: Failure) -> None:
            raise ValueError("odder")

        self.patch(wrong, "connectionLost", fail)
        wrong.send()
        right.send()
        self.reactor.doIteration(0)
        self.assertEqual(right.read, [b"x"])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_gone_meanwhile(self) -> None:
        """What one connection closes is not called any more in the same turn."""
        one, other = self.reader(), self.reader()
        for this, that in ((one, other), (other, one)):
            this.answer = None
            this.read = _ClosesTheOther(that)
        one.send()
        other.send()
        self.reactor.doIteration(0)
        self.assertEqual(len(one.read) + len(other.read), 1)

    def test_write(self) -> None:
        """What waits to be written is written."""
        reader = self.reader()
        written: list[bool] = []
        descriptor, writing = os.pipe()
        self.addCleanup(os.close, descriptor)
        self.addCleanup(os.close, writing)

        def write() -> None:
            written.append(True)
            self.reactor.removeWriter(reader)

        self.patch(reader, "descriptor", writing)
        self.patch(reader, "doWrite", write)
        reader.startWriting()
        self.reactor.doIteration(0)
        self.assertEqual(written, [True])


class _ClosesTheOther(list[bytes]):
    def __init__(self, other: Reader) -> None:
        super().__init__()
        self.other = other

    def append(self, octets: bytes) -> None:
        super().append(octets)
        self.other.stopReading()
