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

_HIDDEN: Final = (
    "\u00ad\u180e\u200b\u2060-\u2064\ufeff"  # hyphens, spaces and joins without a width
    "\u206a-\u206f"  # deprecated: they swap and reshape the characters that follow
    "\ufff9-\ufffb"  # interlinear annotations: the text between them may not be shown
    "\U0001d173-\U0001d17a"  # beams and slurs of music, without a shape of their own
    "\U000e0000-\U000e007f"  # tags: a second alphabet that nobody sees
    "\ufdd0-\ufdef"  # these and the last two of each plane are noncharacters, which are no text
    + "".join(chr(plane | end) for plane in range(0, 0x110000, 0x10000) for end in (0xFFFE, 0xFFFF))
)

ESCAPED_CHARACTERS: Final = re.compile(f"[{ACTING_CHARACTERS.pattern[1:-1]}{_HIDDEN}]")
"""What a format shows as an escape: what acts, and what is there without being seen.

With the latter two names, or a name and the text that somebody greps for, could look equal and
differ. The joiners U+200C and U+200D stay as they are: Persian and families of emoji are
written with them. Of the emoji only the flags of England, Scotland and Wales need tags."""


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")


def visible(text: str) -> str:
    r"""Show every acting or hidden character as its escape, and leave other text as it is.

    A newline becomes ``\n``, ESC ``\x1b``, a right-to-left override ``\u202e``. A backslash
    stays one backslash: the aim is that a line cannot be forged, not that it can be
    turned back (the ``json`` format is for that).

    Args:
        text: any text.

    Returns:
        Text that is one line and that a terminal only prints.
    """
    return ESCAPED_CHARACTERS.sub(_escape, text)
