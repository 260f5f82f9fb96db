"""Characters that a terminal or a reader acts upon, and how a line of text shows them."""

from __future__ import annotations

import re
from typing import Final

ACTING_CHARACTERS: Final = re.compile(
    "["
    "\x00-\x1f"  # C0 controls: newline, carriage return, tab, ESC
    "\x7f-\x9f"  # DEL and the C1 controls: NEL, and CSI, which is ESC [ in one character
    "\u061c\u200e\u200f"  # marks of direction
    "\u2028\u2029"  # separators of lines and of paragraphs
    "\u202a-\u202e\u2066-\u2069"  # embeddings, overrides and isolates of direction
    "]"
)
"""All of them are in the Basic Multilingual Plane: ``\\uXXXX`` can name each."""


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")


def visible(text: str) -> str:
    r"""Show every acting character as its escape, and leave all other text as it is.

    A newline becomes ``\n``, ESC ``\x1b``, a right-to-left override ``\u202e``. A backslash
    stays one backslash: the aim is that a line cannot be forged, not that it can be
    turned back (the ``json`` format is for that).

    Args:
        text: any text.

    Returns:
        Text that is one line and that a terminal only prints.
    """
    return ACTING_CHARACTERS.sub(_escape, text)
