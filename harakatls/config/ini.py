"""
The grammar of ini files: Haraka's, with the few mistakes forgiven that are common in its files.

- Lines end with CRLF, CR or LF. Lines whose first visible character is C{;} or C{#} are comments.
- A blank followed by C{;} starts a comment in any other line, so a value cannot hold these two
  characters in a row. (Haraka has no such comments, yet its documents show them.)
- C{[name]} alone on a line begins a section, or continues it if it was there before. Names count
  as written, but for blanks around them. Keys before the first header are in C{main}.
- C{key=value}: the first C{=} divides; blanks around key and value do not count, quotes are part of
  the value, C{key=} is the empty text. Keys are letters, digits and C{_ @ : . + - / [ ] *},
  and count as written. (Haraka has no C{*}; here hosts may be C{*.example.com}.)
- C{key} alone is a key without a value.
- C{key[]=value} adds to an array. It discards a scalar of that name; a later scalar discards the
  array. Of several scalars the last counts.
- A line that ends in C{\\} goes on in the next line that is neither empty nor a comment, with
  nothing put between.

Corners of our own choice: a header always is a header, so it ends an unfinished value, as does the
end of the file (what is there is taken, with a warning). A line that is none of these is skipped
with a warning, and so are C{[]} and C{key[]} without C{=}. A value that replaces a different one is
warned of. A warning never repeats a value: it might be a password.

No text is refused: the parser warns, the getters of L{Section} raise.
"""

import re
from collections.abc import Iterator

from attrs import define, field

from harakatls.config.errors import MAIN, place, shown
from harakatls.config.section import Section, Value

LINE_END = re.compile(r"\r\n|\r|\n")
_INLINE_COMMENT = re.compile(r"\s;.*", re.DOTALL)
_KEY = re.compile(r"[A-Za-z0-9_@:.+*\-/\[\]]+")


@define(eq=False)
class Ini:
    """
    One ini file, parsed; or the empty one that stands for a missing file.

    @ivar file: the file's name, for errors and warnings.
    """

    file: str
    _sections: dict[str, Section] = field(factory=dict)
    _warnings: list[str] = field(factory=list)
    _asked: set[str] = field(factory=set, init=False)

    @classmethod
    def parse(cls, file: str, text: str) -> "Ini":
        """Any text at all; what is wrong with it is in L{warnings}."""
        parser = _Parser(file)
        for number, line in _joined_lines(text, parser):
            parser.line(number, line)
        sections = {
            name: Section(file, name, values, parser.warnings)
            for name, values in parser.sections.items()
        }
        return cls(file, sections, parser.warnings)

    def section(self, name: str) -> Section:
        """The section of that name; an empty one where the file has none."""
        self._asked.add(name)
        if name not in self._sections:
            return Section(self.file, name, {}, self._warnings)
        return self._sections[name]

    @property
    def main(self) -> Section:
        """The keys before the first header and those under C{[main]}."""
        return self.section(MAIN)

    def sections(self) -> tuple[str, ...]:
        """The names of the sections that are in the file, in its order; C{main} only if used."""
        return tuple(self._sections)

    @property
    def warnings(self) -> tuple[str, ...]:
        """
        What an operator should look at: lines that were skipped, what readers warned of, and the
        keys and sections that nobody has asked for so far. So ask when all readers are done.
        """
        return (*self._warnings, *self.unknown)

    @property
    def unknown(self) -> tuple[str, ...]:
        """Of the L{warnings} those about keys and sections that nobody has asked for."""
        unknown: list[str] = []
        for name, section in self._sections.items():
            if name in self._asked or name == MAIN:
                unknown.extend(section.unknown())
            elif section.unread():
                unknown.append(f"{place(self.file, name)}: unknown section")
        return tuple(unknown)

    def leave_out(self, section: str, key: str | None) -> bool:
        """
        Go on as if the file did not have *key*, to find what else is wrong.

        @param key: None for the whole section.
        @return: whether it had.
        """
        found = self._sections.get(section)
        if found is None or (key is not None and key not in found):
            return False
        if key is None:
            del self._sections[section]
        else:
            self._sections[section] = found.without(key)
        return True


class _Parser:
    """Collects sections line by line."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.sections: dict[str, dict[str, Value]] = {}
        self.warnings: list[str] = []
        self._name = MAIN

    def line(self, number: int, line: str) -> None:
        if not line.strip():  # nothing but backslashes
            return
        name = header_name(line)
        if name is not None:
            self._name = name
            self.sections.setdefault(name, {})
            return
        key, equals, text = (part.strip() for part in line.partition("="))
        is_array = key.endswith("[]")
        if is_array:
            key = key[:-2]
        if not is_key(key) or (is_array and not equals):
            # Only what stands before "=", or the first word: the rest may be a password.
            start = line.partition("=")[0].strip() if equals else line.split()[0]
            self.warn(number, f"{shown(start)} is neither key=value, key[]=value nor [section]")
            return
        values = self.sections.setdefault(self._name, {})
        if is_array:
            self._append(number, values, key, text)
        else:
            self._set(number, values, key, text if equals else None)

    def _append(self, number: int, values: dict[str, Value], key: str, text: str) -> None:
        before = values.get(key, ())
        if isinstance(before, tuple):
            values[key] = (*before, text)
        else:
            self.warn(number, f"{key}[] discards the {key} before it")
            values[key] = (text,)

    def _set(self, number: int, values: dict[str, Value], key: str, value: str | None) -> None:
        if key in values and values[key] != value:
            self.warn(number, f"{key} is given again; only this one counts")
        values[key] = value

    def warn(self, number: int, problem: str) -> None:
        self.warnings.append(f"{self.file} line {number}: {problem}")


def is_key(text: str) -> bool:
    """It can be the name of a key."""
    return _KEY.fullmatch(text) is not None


def header_name(line: str) -> str | None:
    """The name of the section that *line* begins, if it begins one."""
    line = line.strip()
    if line[:1] == "[" and line.find("]") == len(line) - 1:
        name = line[1:-1].strip()
        if name and name.isprintable():
            return name
    return None


def _joined_lines(text: str, parser: _Parser) -> Iterator[tuple[int, str]]:
    """
    The lines that say something, without comments, continued ones in one piece.

    @return: pairs of the number of the (first) line, from 1, and the line.
    """
    unfinished = ""
    began = 0
    for number, raw in enumerate(LINE_END.split(text), 1):
        if raw.lstrip()[:1] in ("", ";", "#"):
            continue
        line = _INLINE_COMMENT.sub("", raw, count=1).rstrip()
        if began and header_name(line) is not None:
            parser.warn(began, "the line ends in a backslash, but a section follows")
            yield began, unfinished
            unfinished, began = "", 0
        if line.endswith("\\"):
            unfinished += line[:-1]
            began = began or number
        else:
            yield began or number, unfinished + line
            unfinished, began = "", 0
    if began:
        parser.warn(began, "the line ends in a backslash, but nothing follows")
        yield began, unfinished
