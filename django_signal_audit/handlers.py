"""Handlers of signals that are wrapped: who keeps them, and how they are connected."""

from __future__ import annotations

import functools
import inspect
import types
import weakref
from collections.abc import Callable, Hashable, Mapping
from typing import TYPE_CHECKING, Any, Final

from asgiref.sync import iscoroutinefunction
from django.apps import apps
from django.db.models.signals import ModelSignal

from django_signal_audit import calls
from django_signal_audit.arguments import Parameters
from django_signal_audit.connections import Connection, reference, signal_name
from django_signal_audit.internals import receiver_key
from django_signal_audit.signals import AuditSignal, describe_sender

if TYPE_CHECKING:
    from django.dispatch import Signal

    from django_signal_audit.acts import ActKind, OpenAct

_MARK: Final = "_signal_audit_handler"

# Of bound methods and callable objects, by their receiver_key, for as long as those live.
_bound: dict[Hashable, Handler] = {}


class Handler:
    """A function and the wrapper that is connected in its place.

    Attributes:
        name: of the function, dotted.
        module: the name of the function's module.
        function: what is decorated, if it is a plain function.
        wrapper: takes the object as its first argument where it belongs to one.
        connections: those of all decorators that are still there, the latest last.
    """

    def __init__(
        self, original: Callable[..., Any], call: Callable[..., Any], *, owned: bool
    ) -> None:
        self.name = name_of(original)
        self.module: str | None = named(original).__module__
        self.function = call
        self.owned = owned
        self.connections: tuple[Connection, ...] = ()
        self.wrapper = calls.recorded(call, self._start)
        self._parameters = Parameters(original)

    def _start(self, args: tuple[Any, ...], named: dict[str, Any]) -> OpenAct | None:
        positional = args[1:] if self.owned else args
        signal, sender = named.get("signal"), named.get("sender", *positional[:1] or [None])
        connection = self._connection(signal, sender)
        if connection is None:
            return None
        if positional:
            # No signal calls it so.
            named = self._parameters.named(positional, named)
        return connection.open(self.name, sender, named)

    def _connection(self, signal: object, sender: object) -> Connection | None:
        """The connection a call comes by; any for a direct call; ``None`` for no call at all."""
        of_signal = [one for one in self.connections if one.signal is signal]
        answering = [one for one in reversed(of_signal) if one.answers(sender)]
        if answering:
            return max(answering, key=lambda one: one.sender is not None)
        if of_signal and all(one.by_text for one in of_signal):
            return None
        return (of_signal or self.connections)[0]


def handler_of(
    function: Callable[..., Any], *, weak: bool
) -> tuple[Handler, Callable[..., Any], Hashable]:
    """The handler of a function, the same for all decorators above it.

    Args:
        function: a plain function, or a bound method or callable object, which stays as it is.
        weak: whether it is to live no longer than what it belongs to.

    Returns:
        The handler, the receiver to connect, and the receiver's ``dispatch_uid`` if it takes
        one to be found as ``function``.
    """
    if inspect.isfunction(function):
        handler = vars(function).get(_MARK)
        # What wraps a function has its attributes too.
        if handler is None or function not in (handler.function, handler.wrapper):
            handler = Handler(function, function, owned=False)
            # Each keeps the other alive, whichever of the two the program holds.
            setattr(function, _MARK, handler)
            setattr(handler.wrapper, _MARK, handler)
        return handler, handler.wrapper, None
    owner = function.__self__ if inspect.ismethod(function) else function
    key = receiver_key(function)
    handler = _bound.get(key)
    if handler is None:
        handler = Handler(function, _unbound(function), owned=True)
        if weak:
            weakref.finalize(owner, _bound.pop, key, None).atexit = False
            _bound[key] = handler
    return handler, types.MethodType(handler.wrapper, owner), key


def connect(
    handler: Handler,
    receiver: Callable[..., Any],
    uid: Hashable,
    signal: Signal,
    sender: Any,
    options: Mapping[str, Any],
    *,
    kind: ActKind,
    arguments: tuple[str, ...],
    target: str,
) -> Connection:
    """Connect a receiver as Django does, but a text that it would miss without the sender.

    Args:
        handler: whose calls are to be recorded.
        receiver: of that handler.
        uid: the receiver's own ``dispatch_uid``, if none is among the options.
        signal: what it is connected to.
        sender: the only one to answer to, which others keep alive; ``None`` means any.
        options: further keywords of ``Signal.connect``.
        kind: how its calls are recorded.
        arguments: of the signal, to keep in the data.
        target: the argument that a call is about.
    """
    how = dict(options)
    given = how.get("dispatch_uid")
    by_text = isinstance(sender, str) and not isinstance(signal, ModelSignal | AuditSignal)
    if not by_text:
        how["sender"] = sender
    elif given:
        # The sender is a part of what Django finds a dispatch_uid by.
        how["dispatch_uid"] = (given, sender)
    if uid is not None and not given:
        how["dispatch_uid"] = uid
    connection = Connection(
        signal=signal,
        name=signal_name(signal, handler.module),
        sender=reference(sender),
        by_text=by_text,
        uid=how.get("dispatch_uid") or receiver_key(receiver),
        registry=how.get("apps") or apps,
        kind=kind,
        arguments=arguments,
        target=target,
    )
    before = handler.connections
    others = [one for one in before if not (connection.replaces(one) or one.is_gone())]
    # A call may come as soon as it is connected.
    handler.connections = (*others, connection)
    try:
        signal.connect(receiver, **how)
    except BaseException:
        handler.connections = before
        raise
    return connection


def named(function: Callable[..., Any]) -> Any:
    """What has the name of a callable: the function of a partial, the class of an object."""
    while isinstance(function, functools.partial):
        function = function.func
    return function if hasattr(function, "__qualname__") else type(function)


def name_of(function: Callable[..., Any]) -> str:
    """The dotted name of a callable."""
    return describe_sender(named(function))


def _unbound(function: Callable[..., Any]) -> Callable[..., Any]:
    """A method or an object's call as a function of its object, which it does not keep alive."""
    if inspect.ismethod(function):
        unbound: Callable[..., Any] = function.__func__
        return unbound
    if iscoroutinefunction(function) or iscoroutinefunction(type(function).__call__):

        async def acall(self: Any, *args: Any, **kwargs: Any) -> Any:
            return await self(*args, **kwargs)

        return acall

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return self(*args, **kwargs)

    return call
