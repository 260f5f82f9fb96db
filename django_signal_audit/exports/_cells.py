r"""Cells that a spreadsheet shows and never runs, and that can be turned back.

A spreadsheet takes a cell that begins with ``=``, ``+``, ``-`` or ``@`` for a formula, however it
is quoted. A text here therefore stands as follows, in this order:

1. As in JSON, a backslash is ``\\``, a line break ``\n``, and every other character that a
   terminal or a reader acts upon is ``\uXXXX``. So a row is one line, and no cell begins
   with a tab or a line break.
2. A semicolon before what could begin a formula is ``\u003b``. Where the semicolon parts
   columns, as in Excel in much of Europe, a file with commas is cut there, quoted or not.
3. What could begin a formula, or begins with an apostrophe, a tab, a line break or NUL, gets an
   apostrophe in front.

A value that is no text is JSON. It begins with a bracket, a digit or a letter, or it is
a negative number; 2. is done to it too, and any JSON reader undoes it.
"""

from __future__ import annotations

import re
from typing import Any, Final

from django_signal_audit.formats._visible import ACTING_CHARACTERS
from django_signal_audit.formats.json import serialize

FORMULA_CHARACTERS: Final = (
    "=+-@"
    "\uff1d\uff0b\uff0d\uff20"  # full width: as good as the plain ones in East Asian locales
    "\ufe66\ufe62\ufe63\ufe6b"  # small
    "\u207c\u207a\u207b\u208c\u208a\u208b"  # raised and lowered
    "\u2212\ufb29"  # the minus of mathematics, the plus of Hebrew
)
"""Characters that begin a formula, and those that Unicode holds to be the same."""

# What may stand before them: blanks, what has no width, and quotes that a program may drop.
_IGNORED = (
    r'\s"\u00ad\u034f\u180e\u200b-\u200d\u2060-\u2064\ufeff' + ACTING_CHARACTERS.pattern[1:-1]
)
_BEGINS_FORMULA = f"[{_IGNORED}]*[{re.escape(FORMULA_CHARACTERS)}]"
_UNSAFE: Final = re.compile(rf"{_BEGINS_FORMULA}|['\t\r\n\0]")
_HIDDEN: Final = re.compile(f";(?={_BEGINS_FORMULA})")
_ESCAPED: Final = re.compile(rf"\\|{ACTING_CHARACTERS.pattern}")
_ESCAPE: Final = re.compile(r"\\(?:u([0-9a-f]{4})|(.))")
# Nearly all texts need nothing; to know that at once makes a row a third faster.
_HARMLESS: Final = re.compile(r"[a-zA-Z0-9][\w ./:,()@-]*")
_NEGATIVE: Final = re.compile(r"-[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_SHORT: Final = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_LONG: Final = {"n": "\n", "r": "\r", "t": "\t"}


def write_cell(value: Any) -> str:
    """One value as a cell: nothing if it is ``None``, else safe text, or JSON.

    Raises:
        TypeError: the value is none that JSON can hold.
    """
    if value is None:
        return ""
    if isinstance(value, str):
        if not value or _HARMLESS.fullmatch(value):
            return value
        text = _HIDDEN.sub(r"\\u003b", _ESCAPED.sub(_escape, value))
        return f"'{text}" if _UNSAFE.match(value) else text
    return _HIDDEN.sub(r"\\u003b", serialize(value).decode())


def write_value(value: Any) -> str:
    """The same for a cell in which numbers are looked for: ``-9.50`` is no formula."""
    if isinstance(value, str) and _NEGATIVE.fullmatch(value):
        return value
    return write_cell(value)


def read_text(cell: str) -> str:
    r"""Turn a cell back into the text that it was made of.

    Args:
        cell: what a CSV reader gave, of a column of text.

    Returns:
        The text: without one leading apostrophe, and with its escapes undone.
    """
    return _ESCAPE.sub(_unescape, cell.removeprefix("'"))


def _escape(match: re.Match[str]) -> str:
    return _SHORT.get(match[0]) or f"\\u{ord(match[0]):04x}"


def _unescape(match: re.Match[str]) -> str:
    code, letter = match.groups()
    return chr(int(code, 16)) if code else _LONG.get(letter, letter)
