"""What a file sink does about rotation, and what it says when that fails."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from django_signal_audit.sinks import counters
from django_signal_audit.sinks._compression import Compression, Compressor
from django_signal_audit.sinks._rotation import Rotation, delete_oldest, rotate

_ADVICE: Final = " Let the process make files in its directory, and see that there is room."

logger = logging.getLogger("django_signal_audit")


class Rotator:
    """Rotates one path: at once what must be, and after the locks what takes time.

    Args:
        alias: of the sink, for messages.
        path: of the current file.
        rotation: when it is due.
        keep: how many rotated files stay; ``None`` for all.
        compress: how they are compressed, if they are.

    Attributes:
        rotation: when it is due.
        is_untidy: whether ``tidy`` is to be called.
    """

    def __init__(
        self,
        alias: str,
        path: Path,
        rotation: Rotation,
        keep: int | None,
        compress: Compression | None,
    ) -> None:
        self.rotation = rotation
        self.is_untidy = False
        self._alias = alias
        self._path = path
        self._keep = keep
        self._compressor = Compressor(alias, path, compress) if compress else None
        self._failure: Exception | None = None
        self._has_told = False

    def rotate(self, descriptor: int) -> int | None:
        """Begin a new file.

        Args:
            descriptor: of the current file, locked.

        Returns:
            The descriptor of the new file, locked. ``None``: that failed, and the current file is
            still the one to write: a line in a file that is too long is better than none.
        """
        try:
            new = rotate(self._path, descriptor)
        except Exception as error:  # noqa: BLE001 - no event is lost since a file is too long
            self._failure = error
            self.is_untidy = not self._has_told
            return None
        self._failure, self._has_told = None, False
        self.is_untidy = True
        return new

    def tidy(self) -> None:
        """After the locks: delete, compress, and say what failed."""
        self.is_untidy = False
        if self._failure is not None:
            self._has_told = True
            logger.warning(
                "Sink %r: %s could not be rotated and goes on growing: %s: %s.%s",
                self._alias,
                self._path,
                type(self._failure).__name__,
                self._failure,
                _ADVICE if isinstance(self._failure, OSError) else "",
            )
            return
        if self._keep is not None:
            try:
                delete_oldest(self._path, self._keep)
            except OSError as error:
                logger.warning(
                    "Sink %r: old rotated files could not be deleted: %s.", self._alias, error
                )
        if self._compressor is not None:
            self._compressor.start()

    def wait(self) -> None:
        """Return when nothing is being compressed any more."""
        if self._compressor is not None:
            self._compressor.wait()

    def forget(self) -> None:
        """In a forked child: what the parent's threads do is not done here."""
        if self._compressor is not None:
            self._compressor.forget()


def report_cut(alias: str, path: Path) -> None:
    """Say that another program has cut the file, as ``copytruncate`` of logrotate does.

    Args:
        alias: of the sink.
        path: of the file.
    """
    counters.count(alias, "truncated", 1)
    logger.warning(
        "Sink %r: another program has cut %s. Lines that were written between its copy and the cut "
        "are lost. In logrotate write 'nocreate' instead of 'copytruncate', or let the sink rotate "
        "the file, with 'rotate_bytes' or 'rotate_every' in its OPTIONS.",
        alias,
        path,
    )
