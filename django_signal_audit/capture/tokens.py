"""The words, names and signs of SQL, as the databases tell them apart: no grammar.

Comments are gone, and what stands in strings is never taken for a word. Any text can be read:
what is not closed reaches to its end.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

WORD: Final = "word"
NAME: Final = "name"
SIGN: Final = "sign"


@dataclass(frozen=True, slots=True)
class Token:
    """A part of a statement.

    Attributes:
        kind: ``word`` (a keyword, a plain name or a number), ``name`` (whatever is quoted: SQLite
            takes a string for a name, too), ``sign``, or ``end``.
        text: in lower case if a word; without its quotes if a name.
    """

    kind: str
    text: str

    @property
    def word(self) -> str:
        """The text of a word; of others nothing."""
        return self.text if self.kind == WORD else ""

    @property
    def sign(self) -> str:
        """The text of a sign; of others nothing."""
        return self.text if self.kind == SIGN else ""


_END: Final = Token("end", "")

_SINGLE: Final = r"'[^']*(?:''[^']*)*'?"
_DOUBLE: Final = r'"[^"]*(?:""[^"]*)*"?'
_BACKTICK: Final = r"`[^`]*(?:``[^`]*)*`?"
_BRACKETS: Final = r"\[[^\]]*(?:\]\][^\]]*)*\]?"
_COMMENT: Final = r"/\*.*?(?:\*/|\Z)"


def _escaped(quote: str) -> str:
    """A string in which a backslash takes the meaning from what follows."""
    return rf"{quote}[^{quote}\\]*(?:(?:\\.|{quote}{quote})[^{quote}\\]*)*{quote}?"


@dataclass(frozen=True, slots=True)
class _Patterns:
    """How one kind of database tells tokens apart.

    Attributes:
        token: one of them, or a blank.
        statement: as many as come before the end of a statement, in one go.
        group: as many as come before a parenthesis or the end of a statement.
    """

    token: re.Pattern[str]
    statement: re.Pattern[str]
    group: re.Pattern[str]


# What takes more than a pattern, and so ends what is passed in one go.
_OF_THE_READER: Final = ("open", "close", "nested", "dollar")


def _patterns(**groups: str) -> _Patterns:
    parts = [f"(?P<{name}>{group})" for name, group in groups.items()]
    token = re.compile("|".join([*parts, "(?P<sign>.)"]), re.DOTALL)
    halts = [f"(?!{groups[name]})" for name in _OF_THE_READER if name in groups]
    passed = "|".join(group for name, group in groups.items() if name not in _OF_THE_READER)

    def many(signs: str) -> re.Pattern[str]:
        return re.compile(f"(?:{''.join(halts)}(?:{passed}|{signs}))*+", re.DOTALL)

    return _Patterns(token, statement=many("[^;]"), group=many("[^;()]"))


# Of backends that are not named here SQLite's will do: it takes the quotes of all others.
_SQLITE: Final = _patterns(
    blank=rf"\s+|--[^\n]*|{_COMMENT}",
    name=rf"{_SINGLE}|{_DOUBLE}|{_BACKTICK}|{_BRACKETS}",
    word=r"[\w$]+",
)
_PATTERNS: Final = {
    "postgresql": _patterns(
        blank=r"\s+|--[^\r\n]*",
        nested=r"/\*",
        dollar=r"\$(?:[^\W\d]\w*)?\$",
        name=rf"[eE]{_escaped(chr(39))}|{_SINGLE}|{_DOUBLE}",
        word=r"\w[\w$]*",
    ),
    "mysql": _patterns(
        # What stands in /*! */ is executed.
        open=r"/\*M?!\d*",
        close=r"\*/",
        blank=rf"\s+|--(?=\s|\Z)[^\n]*|\#[^\n]*|{_COMMENT}",
        name=rf"{_escaped(chr(39))}|{_escaped(chr(34))}|{_BACKTICK}",
        word=r"[\w$]+",
    ),
}
_EDGE: Final = re.compile(r"/\*|\*/")


class Reader:
    """Reads a text token by token, and no further than it is asked: a statement may be long.

    Attributes:
        token: the present one; at the end of a statement a ``;``, or one of the kind ``end``.
    """

    def __init__(self, text: str, vendor: str) -> None:
        self.vendor = vendor
        self._text = text
        self._patterns = _PATTERNS.get(vendor, _SQLITE)
        self._place = 0
        self._open = 0
        self.token = self._scan()

    @property
    def word(self) -> str:
        """The present word; empty if it is none."""
        return self.token.word

    @property
    def ended(self) -> bool:
        """Whether the statement ends here."""
        return self.token is _END or self.at(";")

    def at(self, sign: str) -> bool:
        """Whether the present token is a certain sign."""
        return self.token.sign == sign

    def advance(self) -> Token:
        """Go on, but not beyond the end of the statement; gives what was there."""
        token = self.token
        if not self.ended:
            self.token = self._scan()
        return token

    def skip(self, *words: str) -> None:
        """Go on as long as the present word is one of these."""
        while self.word in words:
            self.advance()

    def leave_group(self) -> None:
        """Go on to what follows the closing parenthesis of the present group."""
        depth = 1
        while depth and not self.ended:
            sign = self.token.sign
            depth += (sign == "(") - (sign == ")")
            if depth:
                self._pass(self._patterns.group)
            self.advance()

    def next_statement(self) -> bool:
        """Go on to the next statement; false if there is none."""
        if not self.ended and self._text.find(";", self._place) < 0:
            self.finish()
        while not self.ended:
            self._pass(self._patterns.statement)
            self.advance()
        if self.token is not _END:
            self.token = self._scan()
        return self.token is not _END

    def finish(self) -> None:
        """Leave the rest unread."""
        self._place = len(self._text)
        self.token = _END

    def _pass(self, pattern: re.Pattern[str]) -> None:
        """Leave tokens out between the present one and the next: a text may have millions."""
        match = pattern.match(self._text, self._place)
        self._place = match.end() if match else self._place

    def _scan(self) -> Token:
        while match := self._patterns.token.match(self._text, self._place):
            self._place = match.end()
            kind, text = match.lastgroup, match[0]
            if kind == "open":
                self._open += 1
            elif kind == "close" and not self._open:
                self._place = match.start() + 1
                return Token(SIGN, "*")
            elif kind == "close":
                self._open -= 1
            elif kind == "nested":
                self._leave_comment()
            elif kind == "dollar":
                end = self._text.find(text, self._place)
                self._place = len(self._text) if end < 0 else end + len(text)
                return Token(NAME, "")
            elif kind == NAME:
                return Token(NAME, _unquoted(text))
            elif kind == WORD:
                return Token(WORD, text.lower())
            elif kind == SIGN:
                return Token(SIGN, text)
        return _END

    def _leave_comment(self) -> None:
        """PostgreSQL's comments nest."""
        depth = 1
        while depth:
            edge = _EDGE.search(self._text, self._place)
            if edge is None:
                self._place = len(self._text)
                return
            self._place = edge.end()
            depth += 1 if edge[0] == "/*" else -1


def _unquoted(text: str) -> str:
    last = "]" if text[0] == "[" else text[0]
    inner = text[1:-1] if len(text) > 1 and text[-1] == last else text[1:]
    return inner.replace(last * 2, last)
