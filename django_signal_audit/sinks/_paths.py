"""What may be wrong with the path of a file that is to be appended to."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class PathProblem:
    """Why a path cannot serve.

    Attributes:
        number: of the system check error, such as ``"E201"``.
        message: what is wrong.
        hint: what to do instead.
    """

    number: str
    message: str
    hint: str

    def __str__(self) -> str:
        return f"{self.message} {self.hint}"


def find_problem(path: Path) -> PathProblem | None:
    """Look whether a file can be appended to, or else made; nothing is opened or made.

    Args:
        path: an absolute path.

    Returns:
        The first problem, or ``None``.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return _find_directory_problem(path.parent)
    except OSError as error:
        return PathProblem(
            "E203",
            f"{path} cannot be reached: {error.strerror}.",
            "Correct the path, or the permissions of its directories.",
        )
    return _find_kind_problem(path, mode) or _find_access_problem(path)


def _find_kind_problem(path: Path, mode: int) -> PathProblem | None:
    if stat.S_ISLNK(mode):
        return PathProblem(
            "E204",
            f"{path} is a symbolic link, which is not followed.",
            "Write the path of the file that it points to.",
        )
    if stat.S_ISDIR(mode):
        return PathProblem("E202", f"{path} is a directory.", "Write the path of a file in it.")
    if not stat.S_ISREG(mode):
        return PathProblem(
            "E205",
            f"{path} is not a regular file.",
            "For the output of the process use StdoutSink.",
        )
    return None


def _find_access_problem(path: Path) -> PathProblem | None:
    if not _allows(path, os.R_OK | os.W_OK):
        return PathProblem(
            "E203",
            f"{path} cannot be written by this user.",
            "Permit the user of the process to read and to write it.",
        )
    return None


def _find_directory_problem(directory: Path) -> PathProblem | None:
    if not directory.is_dir():
        return PathProblem(
            "E201",
            f"The directory {directory} does not exist.",
            "Create it, or correct the path in the sink's OPTIONS.",
        )
    if not _allows(directory, os.W_OK | os.X_OK):
        return PathProblem(
            "E203",
            f"No file can be made in {directory} by this user.",
            "Permit the user of the process to write to the directory.",
        )
    return None


def _allows(path: Path, mode: int) -> bool:
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)
