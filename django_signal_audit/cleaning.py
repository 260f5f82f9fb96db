"""Raw values as an event may hold them: safe for JSON, masked, and without secrets."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from django_signal_audit import conf
from django_signal_audit.redaction import redactor
from django_signal_audit.values import make_safe, safe_text, stable_key

TEXT_LIMIT: Final = 10_000
NAME_LIMIT: Final = 255

_SCRUBBED_BEYOND: Final = 1000
_KEYS_KEPT: Final = 100


def clean_text(value: Any, secrets: Collection[str] = (), *, limit: int = TEXT_LIMIT) -> str:
    """A text for people: safe, without secrets, and at most ``limit`` characters.

    Secrets are taken out before the text is cut, so that no half of one stays.

    Args:
        value: shown by its ``str()``.
        secrets: values that must not reappear in it.
        limit: characters that are kept.
    """
    whole = safe_text(value, limit=sys.maxsize)
    text = safe_text(whole, limit=limit + _SCRUBBED_BEYOND)
    text = redactor().scrub_text(text, secrets)
    keep = limit - len(f"...[+{len(whole)}]")
    if len(text) <= limit or keep <= 0 or len(whole) <= limit + _SCRUBBED_BEYOND:
        return safe_text(text, limit=limit)
    # It was cut before it was scrubbed: what is left out is counted from its true length.
    return f"{text[:keep]}...[+{len(whole) - keep}]"


def clean_value(value: Any, secrets: set[str], scrub: Callable[[str], str] | None = None) -> Any:
    """Any value as plain JSON types, with what is sensitive by name masked.

    Args:
        value: of any type.
        secrets: receives the values that were masked.
        scrub: applied to every text in it.
    """
    return make_safe(
        value,
        limit=conf.current().VALUE_LIMIT,
        is_sensitive=redactor().is_sensitive,
        secrets=secrets,
        pairs=True,
        scrub=scrub,
    )


def clean_mapping(values: Mapping[str, Any], secrets: set[str], name: str) -> dict[str, Any]:
    """Named values, safe, masked and without the secrets, to which it adds those found here.

    Where they are too long together, each is cut alone.

    Args:
        values: by name.
        secrets: values that must not reappear in any text; receives those that were masked.
        name: of the whole, used where even the names are too many.
    """
    if not values:
        return {}
    # A secret may stand in a text before the name that says so.
    clean_value(dict(values), secrets)
    scrub = redactor().scrubber(secrets)
    whole = clean_value(dict(values), secrets, scrub)
    if "$cut" not in whole:
        return whole  # type: ignore[no-any-return]
    if len(values) > _KEYS_KEPT:
        return {name: whole}
    parts: dict[str, Any] = {}
    for key, value in values.items():
        part = clean_value({key: value}, secrets, scrub)
        if "$cut" in part:
            part = {stable_key(scrub(key)): clean_value(value, secrets, scrub)}
        parts.update(part)
    return parts
