"""``AuditMiddleware``: events made during a request know it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any, cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import FileResponse, StreamingHttpResponse

from django_signal_audit import context, tasks

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponseBase

    GetResponse = Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]


class AuditMiddleware:
    """Remembers the request while it is handled, and while its response is streamed.

    It queries nothing and adds no header. Place it after ``AuthenticationMiddleware``. It
    serves sync and async.
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
    if isinstance(response, StreamingHttpResponse) and not isinstance(response, FileResponse):
        parts: Any = response.streaming_content
        stream = _astream if response.is_async else _stream
        response.streaming_content = stream(request, parts)
    return response


# The scope is left before each part is handed over: whoever takes it has a context of its own.


def _stream(request: HttpRequest, parts: Iterator[bytes]) -> Iterator[bytes]:
    while True:
        with context.request_scope(request):
            try:
                part = next(parts)
            except StopIteration:
                return
        yield part


async def _astream(request: HttpRequest, parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    while True:
        with context.request_scope(request):
            async with tasks.pending_writes():
                try:
                    part = await anext(parts)
                except StopAsyncIteration:
                    return
        yield part
