"""The application's own signal, and the receiver that listens to it.

A view says what happened with one call::

    event_signal.send(sender="View: test_logging", message=message, instance=emp_inst)

In its first version this project wrote ``log_event.log`` in the receiver below. Now
``event_signal`` comes from the audit package, which records before it dispatches: the line in the
log, in the same format, is the work of the ``log`` sink in the settings, and no receiver can
prevent or repeat it.
"""

import logging
from typing import Any

from django.db.models import Model
from django.dispatch import receiver
from django.http import HttpRequest

from django_signal_audit import event_signal

logger = logging.getLogger(__name__)


@receiver(event_signal, dispatch_uid="speedy.view_event_logging")
def view_event_logging(
    sender: Any,
    message: str,
    instance: Model | None = None,
    request: HttpRequest | None = None,
    **kwargs: Any,
) -> None:
    """Say at DEBUG level that the event arrived; LOG_LEVEL=DEBUG shows it. It writes no log file.

    ``request`` is optional since the call above passes none.
    """
    path = request.path if request is not None else "no request"
    logger.debug("%s: %s (%s, %s)", sender, message, instance, path)
