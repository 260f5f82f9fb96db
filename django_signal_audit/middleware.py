"""``AuditMiddleware``: events made during a request know it."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, cast

from asgiref.sync import markcoroutinefunction

from django_signal_audit import context, tasks

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponseBase

    GetResponse = Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]


class AuditMiddleware:
    """Remembers the request while it is handled. It queries nothing and adds no header.

    Place it after ``AuthenticationMiddleware``. It serves sync and async.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response
        self._is_async = inspect.iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Handle one request inside its scope."""
        if self._is_async:
            return self._acall(request)
        with context.request_scope(request):
            return self.get_response(request)

    async def _acall(self, request: HttpRequest) -> HttpResponseBase:
        with context.request_scope(request):
            async with tasks.pending_writes():
                return await cast("Awaitable[HttpResponseBase]", self.get_response(request))
