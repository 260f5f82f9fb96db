"""``AuditMiddleware``: events made during a request know it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterator,
)
from types import AsyncGeneratorType
from typing import TYPE_CHECKING, Any, cast

from asgiref.sync import async_to_sync, iscoroutinefunction, markcoroutinefunction
from django.http import FileResponse, StreamingHttpResponse

from django_signal_audit import context, internals, tasks

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponseBase

    GetResponse = Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]

logger = logging.getLogger("django_signal_audit")


class AuditMiddleware:
    """Remembers the request while it is handled, and while its response is streamed.

    It queries nothing and adds no header. It serves sync and async, wherever
    it stands; what middleware before it writes by itself is recorded without the request.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Handle one request inside its scope."""
        if self._is_async:
            return self._acall(request)
        with context.request_scope(request):
            response = cast("HttpResponseBase", self.get_response(request))
        return _in_scope(request, response)

    async def _acall(self, request: HttpRequest) -> HttpResponseBase:
        with context.request_scope(request):
            async with tasks.pending_writes():
                response = await cast("Awaitable[HttpResponseBase]", self.get_response(request))
        return _in_scope(request, response)


def _in_scope(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    """The response; if its content is still to be made, then inside the request's scope."""
    if not isinstance(response, StreamingHttpResponse) or isinstance(response, FileResponse):
        return response
    parts, close = internals.parts_of(response), response.close
    stream = _astream(request, parts) if response.is_async else _stream(request, parts)
    response.streaming_content = stream

    def close_in_scope() -> None:
        # A response that refers to itself would stay until the garbage collector runs.
        vars(response).pop("close", None)
        with context.request_scope(request):
            if isinstance(stream, AsyncGeneratorType):
                _close(stream)
            close()

    # The end of a generator that was given up may send an event.
    response.close = close_in_scope  # type: ignore[method-assign]
    return response


# The scope is left before each part is handed over: whoever takes it has a context of its own.


def _stream(request: HttpRequest, parts: Iterator[Any]) -> Generator[Any]:
    while True:
        with context.request_scope(request):
            try:
                part = next(parts)
            except StopIteration:
                return
        yield part


async def _astream(request: HttpRequest, parts: AsyncIterator[Any]) -> AsyncGenerator[Any]:
    try:
        while True:
            with context.request_scope(request):
                async with tasks.pending_writes():
                    try:
                        part = await anext(parts)
                    except StopAsyncIteration:
                        return
            yield part
    finally:
        if isinstance(parts, AsyncGenerator):
            with context.request_scope(request):
                async with tasks.pending_writes():
                    await parts.aclose()


def _close(stream: AsyncGeneratorType[Any]) -> None:
    """End a stream whose client has gone away while the request's thread is still there.

    Django leaves it to the garbage collector and the loop, which do so at some time later.
    """
    if stream.ag_frame is None:
        return  # it has ended

    async def close() -> None:
        await stream.aclose()

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        try:
            async_to_sync(close)()
        except Exception:
            logger.exception("The content of a streamed response could not be closed.")
