"""What Django does not document of signals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.dispatch import dispatcher

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from django.dispatch import Signal


def receiver_key(receiver: Callable[..., Any]) -> Hashable:
    """What ``Signal`` tells receivers apart by, if they have no ``dispatch_uid``.

    Given as the ``dispatch_uid`` of another receiver, ``disconnect(receiver)`` finds that one.
    """
    key: Hashable = dispatcher._make_id(receiver)  # type: ignore[attr-defined]
    return key


def is_connected(signal: Signal, uid: Hashable, sender: Any) -> bool:
    """Whether a signal still has a receiver.

    Args:
        signal: any.
        uid: the receiver's ``dispatch_uid``, or else its ``receiver_key``.
        sender: what it was connected to; ``None`` means any.
    """
    key = (uid, dispatcher._make_id(sender))  # type: ignore[attr-defined]
    return any(entry[0] == key for entry in list(signal.receivers))


def connect_first(
    signal: Signal, receiver: Callable[..., Any], sender: Any, dispatch_uid: str
) -> None:
    """Connect a receiver, strongly, so that it is called before those connected until now.

    ``Signal`` calls its receivers in the order in which they were connected, and one that
    raises keeps the later ones from being called.
    """
    signal.connect(receiver, sender=sender, weak=False, dispatch_uid=dispatch_uid)
    with signal.lock:
        ours = [entry for entry in signal.receivers if entry[1] is receiver]
        # A new list in one step: send() looks at it without the lock.
        signal.receivers = ours + [entry for entry in signal.receivers if entry[1] is not receiver]
        signal.sender_receivers_cache.clear()
