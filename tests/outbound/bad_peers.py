"""Servers in memory that are broken or hostile."""

from typing import Any

from harakatls.testing.peers import Act, Answer, ObligingPeer

POURED = 16384  # octets that arrive at once


UNKNOWN = "550 5.1.1 No such user"


class WithoutAnn(ObligingPeer):
    """Does not know ann, and everybody else."""

    def answer(self, command: str) -> Answer:
        """As `ScriptedPeer.answer`."""
        return UNKNOWN if command.startswith("RCPT TO:<ann@") else super().answer(command)


class FewWords(WithoutAnn):
    """Is gone after having said so many octets, wherever that is."""

    def __init__(self, octets: int, ending: Act, *extensions: str, **answers: Any) -> None:
        super().__init__(*extensions, **answers)
        self._left, self._end = octets, ending

    def _respond(self, command: str) -> None:
        before = len(self.output)
        super()._respond(command)
        said = len(self.output) - before
        if said >= self._left:
            del self.output[before + self._left :]
            self.ending = self._end
        self._left -= min(said, self._left)


class ShortEars(WithoutAnn):
    """Is gone after having heard so many octets, wherever that is, and says no more."""

    def __init__(self, octets: int, ending: Act, *extensions: str, **answers: Any) -> None:
        super().__init__(*extensions, **answers)
        self._left, self._end = octets, ending

    def received(self, data: bytes) -> None:
        """As `ScriptedPeer.received`."""
        heard = data[: self._left]
        self._left -= len(heard)
        super().received(heard)
        if not self._left and self.ending is None:
            self.ending = self._end
            self.output.clear()


class Pouring(ObligingPeer):
    """
    Once *step* has come, says *words* over and over until the client is gone.

    @ivar poured: how many octets it got rid of.
    """

    def __init__(self, step: str, words: bytes, *extensions: str, **answers: Any) -> None:
        """@param step: as the keys of `ObligingPeer`; "body" is a message that has begun."""
        self.poured = 0
        self._said = bytearray()
        self._pouring = False
        self._step, self._words = step, words * (1 + POURED // len(words))
        super().__init__(*extensions, **answers)

    @property
    def output(self) -> bytearray:
        """What is to be sent now."""
        if not self._pouring:
            return self._said
        return self._said + self._words

    @output.setter
    def output(self, said: bytearray) -> None:
        self._said = said
        if self._pouring:
            self.poured += len(self._words)

    def received(self, data: bytes) -> None:
        """As `ScriptedPeer.received`."""
        if not self._pouring:
            super().received(data)

    def _respond(self, command: str) -> None:
        verb = {"": "connect", ".": "end"}.get(command) or command.split(" ")[0]
        if self._pouring:
            return
        if verb == self._step:
            self._pouring = True
            return
        super()._respond(command)
        self._pouring = self._step == "body" and verb == "DATA"


class Dripping(ObligingPeer):
    """
    Once *step* has come, says *words* over and over, an octet whenever `drip` is called.

    @ivar drips: how many octets.
    """

    def __init__(self, step: str, words: bytes, *extensions: str, **answers: Any) -> None:
        super().__init__(*extensions, **answers)
        self._step, self._words = step, words
        self._dripping = False
        self.drips = 0

    def drip(self) -> None:
        """One octet, if it has come to that."""
        if self._dripping:
            self.output.append(self._words[self.drips % len(self._words)])
            self.drips += 1

    def _respond(self, command: str) -> None:
        verb = {"": "connect", ".": "end"}.get(command) or command.split(" ")[0]
        if verb == self._step:
            self._dripping = True
        elif not self._dripping:
            super()._respond(command)
