"""``audit_action``: a block that is an act."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, cast

from django_signal_audit import calls, context, definitions
from django_signal_audit.acts import ActKind, OpenAct
from django_signal_audit.arguments import Parameters
from django_signal_audit.endings import Action, require_data, require_object, with_own_containers
from django_signal_audit.signals import check_definition, describe_sender

if TYPE_CHECKING:
    from types import TracebackType


class audit_action:  # noqa: N801 - used like a function
    """Record a block: how it ended, how long it took, what it was about.

    It is used as ``with audit_action(...) as action:``, as ``async with``, and as a decorator
    of sync and async functions. An exception makes the act a ``failure``, ``PermissionDenied``
    makes it ``denied``; the exception goes on as it was. What is written inside carries the
    event as its cause. The event survives a rollback.

    One object may be entered again inside itself, and by several threads and tasks at once:
    each time it is an act of its own.

    Args:
        event: dotted name, such as ``"shift.assign"``.
        target: the model instance that the act is about; one without a key is named by the
            key that it has in the end. It can be set inside: ``action.target = shift``.
        reason: why; said of the act and of every event made inside.
        data: the first keys of the event's ``data``; inside, ``action.data`` takes more. Its
            dicts, lists, sets and tuples are copied, for each act anew.
        level: level of a success; a denial is a ``warning``, a failure an ``error``.
        sinks: aliases of the only sinks it goes to; ``None`` means all.
        using: alias whose transaction, if one is open, the event belongs to; left out, that
            of the target.
        started: also record ``<event>.started``, before the block begins.

    Raises:
        AuditConfigurationError: an argument is wrong.
    """

    def __init__(
        self,
        event: str,
        *,
        target: Any = None,
        reason: str | None = None,
        data: Mapping[str, Any] | None = None,
        level: str = "info",
        sinks: Collection[str] | None = None,
        using: str | None = None,
        started: bool = False,
    ) -> None:
        calls.require_name("audit_action", event)
        self._where = f"audit_action({event!r})"
        check_definition(self._where, event, level, sinks=sinks)
        calls.require_options(self._where, started=started, reason=reason, using=using)
        if data is not None:
            require_data(f"{self._where}: data", data)
        limited = None if sinks is None else tuple(sinks)
        self._kind = ActKind(event=event, level=level, sinks=limited, using=using, started=started)
        require_object(target)
        self._target = target
        self._data = with_own_containers(data or {})
        self._reason = reason
        self._sender = _caller()
        self._open: list[_Block] = []
        definitions.remember(self, self._where, sinks)

    def __enter__(self) -> Action:
        act = self._act(self._sender)
        try:
            act.begin()
        except BaseException as exc:
            act.record_failure(exc)
            raise
        return self._enter(act)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        act = self._leave()
        if exc is None:
            act.record()
        else:
            act.record_failure(exc)

    async def __aenter__(self) -> Action:
        act = self._act(self._sender)
        try:
            await calls.begin(act)
        except BaseException as exc:
            await calls.finish(act, exc)
            raise
        return self._enter(act)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await calls.finish(self._leave(), exc)

    def __call__(self, function: calls.F) -> calls.F:
        """Make each call of a function an act."""
        where = f"@{self._where}"
        if isinstance(function, classmethod | staticmethod):
            return cast("calls.F", type(function)(self(function.__func__)))
        calls.require_function(where, function)
        sender, parameters = describe_sender(function), Parameters(function)

        def start(args: tuple[Any, ...], kwargs: dict[str, Any]) -> OpenAct:
            return self._act(sender, parameters.secrets(args, kwargs))

        return cast("calls.F", calls.recorded(function, start))

    def _act(self, sender: str, secrets: frozenset[str] = frozenset()) -> OpenAct:
        return OpenAct(
            self._kind,
            sender,
            data=with_own_containers(self._data),
            target=self._target,
            reason=self._reason,
            secrets=secrets,
        )

    def _enter(self, act: OpenAct) -> Action:
        block = _Block(self, act)
        block.__enter__()
        self._open.append(block)
        return act.action

    def _leave(self) -> OpenAct:
        here = (one for one in reversed(context.entered()) if isinstance(one, _Block))
        block = next((one for one in here if one.action is self), None)
        if block is None:
            # An event loop closes a forgotten async generator in a context of its own.
            if not self._open:
                raise RuntimeError(f"{self._where} is left without having been entered.")
            block = self._open[-1]
        self._open.remove(block)
        block.__exit__(None, None, None)
        return block.act


class _Block(context.cause_scope):
    """The scope of one entering: which ``audit_action`` it is of, and its act."""

    def __init__(self, action: audit_action, act: OpenAct) -> None:
        super().__init__(act.id, act.reason)
        self.action = action
        self.act = act


def _caller() -> str:
    """The dotted name of the function that makes an ``audit_action``."""
    frame = sys._getframe(2)  # noqa: SLF001 - what logging and warnings use too
    module, name = frame.f_globals.get("__name__", "?"), frame.f_code.co_qualname
    return module if name == "<module>" else f"{module}.{name}"
