"""Functions whose calls are acts: what decorators have in common."""

from __future__ import annotations

import asyncio
import functools
import inspect
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, TypeVar

from asgiref.sync import iscoroutinefunction
from django.utils.functional import Promise

from django_signal_audit import context, tasks
from django_signal_audit.acts import OpenAct
from django_signal_audit.exceptions import AuditConfigurationError

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

Start = Callable[[tuple[Any, ...], dict[str, Any]], OpenAct | None]


def recorded(function: Callable[..., Any], start: Start) -> Callable[..., Any]:
    """Wrap a function, sync or async, so that each call is an act.

    Args:
        function: is called inside the act.
        start: makes the act of a call; ``None`` means that the function is not to be called.
    """
    make = _recorded_async if iscoroutinefunction(function) else _recorded
    return functools.wraps(function)(make(function, start))


def _recorded(function: Callable[..., Any], start: Start) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        act = start(args, kwargs)
        if act is None:
            return None
        try:
            act.begin()
            with act.inside():
                result = function(*args, **kwargs)
        except BaseException as exc:
            act.record_failure(exc)
            raise
        if context.is_coroutine(result):
            # Such as of View.dispatch, where the handler is async: nothing is done yet.
            return context.named_as(result, _go_on(act, result))
        act.returned(result)
        act.record()
        return result

    return wrapper


async def _go_on(act: OpenAct, coroutine: Coroutine[Any, Any, T]) -> T:
    """Finish an act of which only the first part, up to its coroutine, has run."""
    return await isolated(_awaited(act, lambda: coroutine))


async def _awaited(act: OpenAct, call: Callable[[], Awaitable[T]]) -> T:
    try:
        with act.inside():
            result = await call()
    except BaseException as exc:
        await finish(act, exc)
        raise
    act.returned(result)
    await finish(act, None)
    return result


def _recorded_async(function: Callable[..., Any], start: Start) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> Any:
        act = start(args, kwargs)
        if act is None:
            return None
        try:
            await begin(act)
        except BaseException as exc:
            await finish(act, exc)
            raise
        return await _awaited(act, functools.partial(function, *args, **kwargs))

    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        return await isolated(call(*args, **kwargs))

    return wrapper


async def begin(act: OpenAct) -> None:
    """Begin an act, from a coroutine."""
    if act.begins_with_work:
        await tasks.run(act.begin)
    else:
        act.begin()


async def finish(act: OpenAct, error: BaseException | None) -> None:
    """Record how an act ended, from a coroutine."""
    if error is None:
        await tasks.run(act.record)
    elif isinstance(error, asyncio.CancelledError | GeneratorExit):
        # Nothing may be awaited any more; a task does it, if the loop still runs.
        act.record_failure(error)
    else:
        await tasks.run(functools.partial(act.record_failure, error))


@types.coroutine
def isolated(coroutine: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
    """Drive a coroutine whose actor, cause and so on are its own, also in a shared context.

    Since Django 6.1 the async receivers of one signal run concurrently in one context, and
    what one of them sets is seen by the others and stays when all are done.
    """
    inside = [var.get() for var in context.VARIABLES]
    step: Callable[[], Any] = functools.partial(coroutine.send, None)
    while True:
        outside = _exchange(inside)
        try:
            awaited = step()
        except StopIteration as done:
            result: T = done.value
            return result
        finally:
            inside = _exchange(outside)
        try:
            step = functools.partial(coroutine.send, (yield awaited))
        except BaseException as exc:  # noqa: BLE001 - handed on to the coroutine
            step = functools.partial(coroutine.throw, exc)


def _exchange(values: list[Any]) -> list[Any]:
    """Give the audit's variables these values, and return those that they had."""
    before = [var.get() for var in context.VARIABLES]
    for var, value, now in zip(context.VARIABLES, values, before, strict=True):
        if value is not now:
            var.set(value)
    return before


def require_name(decorator: str, event: Any) -> None:
    """Refuse a decorator that was written without the name of its event.

    Raises:
        AuditConfigurationError: it was.
    """
    if callable(event):
        raise AuditConfigurationError(
            f"{decorator} needs the event's name: {decorator}('shift.assign')."
        )


def require_target(where: str, target: object) -> None:
    """Refuse a target that does not name an argument.

    Raises:
        AuditConfigurationError: it is neither a text nor ``None``.
    """
    if target is not None and not isinstance(target, str):
        raise AuditConfigurationError(
            f"{where}: the target is {target!r:.100}.",
            hint="Write the name of an argument, such as target='shift'.",
        )


def require_function(where: str, function: Any) -> None:
    """Refuse what is not called once and then done.

    Raises:
        AuditConfigurationError: it is a class, a generator, or cannot be called.
    """
    if isinstance(function, type):
        raise AuditConfigurationError(
            f"{where} belongs on a function, not on the class {function.__name__}.",
            hint="For a class-based view decorate a method, such as dispatch.",
        )
    if not callable(function):
        raise AuditConfigurationError(
            f"{where} belongs on a function, not on {function!r}.",
            hint="Write it on the line above `def`.",
        )
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise AuditConfigurationError(
            f"{where} cannot tell when the generator {function.__qualname__} is done.",
            hint="Send an event_signal at its end.",
        )


def require_options(
    where: str, *, started: object, reason: object = None, using: object = None
) -> None:
    """Refuse options of the wrong type.

    Raises:
        AuditConfigurationError: naming the first.
    """
    if not isinstance(started, bool):
        raise AuditConfigurationError(
            f"{where}: started is {started!r:.100}.", hint="Write started=True, or leave it out."
        )
    if reason is not None and not isinstance(reason, str | Promise):
        raise AuditConfigurationError(
            f"{where}: the reason is {reason!r:.100}.", hint="Write a text, such as reason='T-17'."
        )
    if using is not None and not isinstance(using, str):
        raise AuditConfigurationError(
            f"{where}: using is {using!r:.100}.",
            hint="Write an alias of DATABASES, such as using='default'.",
        )
