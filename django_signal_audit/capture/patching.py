"""How Django's own functions are wrapped: in one way, once, and recognisably."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

ORIGINAL: Final = "signal_audit_original"


def wrap(owner: Any, name: str, replacement: Callable[..., Any]) -> None:
    """Put a function in the place of one of Django's; a second call changes nothing.

    Args:
        owner: the class or module that has it.
        name: its name there.
        replacement: called with the original and the arguments of the call.
    """
    original = getattr(owner, name)
    if hasattr(original, ORIGINAL):
        return

    # functools.wraps copies alters_data and queryset_only, which Django sets on functions.
    @functools.wraps(original)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return replacement(original, *args, **kwargs)

    setattr(wrapper, ORIGINAL, original)
    setattr(owner, name, wrapper)
