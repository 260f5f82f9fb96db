"""For ASGI servers: what was accepted is written before the process ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from django_signal_audit import tasks

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
# Servers and Django's stubs differ in how they call a message; any of their applications will do.
Send = Callable[[Any], Awaitable[None]]
Application = Callable[[Any, Receive, Send], Awaitable[None]]


def audit_lifespan(application: Application) -> Application:
    """Let a server that is told to stop wait for events of tasks that outlived their request.

    A request waits for its own events, and servers wait for requests. For what a task of its
    own has sent, uvicorn does not: it ends the process by the signal it was given, in the
    middle of a write. It does wait for the ASGI lifespan, which Django's application does not
    know and which is answered here in its place.

    Args:
        application: Django's, as ``get_asgi_application()`` makes it. One that has a lifespan
            of its own needs no wrapper: it awaits ``tasks.wait_for_writes()`` in its shutdown.
    """

    async def audited(scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        else:
            await application(scope, receive, send)

    return audited


async def _lifespan(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await tasks.wait_for_writes()
    await send({"type": "lifespan.shutdown.complete"})
