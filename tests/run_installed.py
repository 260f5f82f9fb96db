"""Run pytest on the installed package, not on the tree: ``python tests/run_installed.py ...``.

The package lies at the top of the repository, so that a Python started there would import it
from the tree. Everything else is copied to a temporary folder, and pytest runs there: a file that
is missing from the wheel is then missing from the tests too.

With ``COVERAGE_DIR`` set, line and branch coverage is measured into that folder.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

TREE = Path(__file__).resolve().parent.parent
PACKAGE = "django_signal_audit"
LEFT_OUT = (PACKAGE, "build", "dist", "htmlcov", "__pycache__", "*.sqlite3", "*.jsonl", "*.log")


def main(arguments: list[str]) -> int:
    """Copy, make sure of what is imported, run; returns pytest's exit code."""
    with tempfile.TemporaryDirectory(prefix="signal-audit-") as folder:
        copy = Path(folder) / "checkout"
        shutil.copytree(TREE, copy, ignore=shutil.ignore_patterns(".*", *LEFT_OUT))
        shutil.copytree(TREE / ".ci", copy / ".ci")
        for example in TREE.glob("sandbox/.env.example"):
            shutil.copy(example, copy / "sandbox")
        environment = {**os.environ, "SIGNAL_AUDIT_TREE": str(TREE)}
        require_installed(copy, environment)
        return subprocess.run(
            [sys.executable, *measured(environment), "-m", "pytest", *arguments],
            cwd=copy,
            env=environment,
            check=False,
        ).returncode


def require_installed(folder: Path, environment: dict[str, str]) -> None:
    """Refuse to go on if the package that the tests would import is not an installed one."""
    asked = f"import {PACKAGE}; print({PACKAGE}.__file__)"
    command = [sys.executable, "-c", asked]
    found = subprocess.run(
        command, cwd=folder, env=environment, check=False, capture_output=True, text=True
    )
    place = Path(found.stdout.strip()).resolve()
    if found.returncode or not place.is_relative_to(Path(sys.prefix).resolve()):
        raise SystemExit(
            f"{PACKAGE} is not installed in {sys.prefix}: {found.stderr or place}. Run the tests "
            "through tox, or, for those of the tree, plain pytest."
        )


def measured(environment: dict[str, str]) -> list[str]:
    """The arguments that let coverage run pytest, or none."""
    folder = environment.get("COVERAGE_DIR")
    if not folder:
        return []
    Path(folder).mkdir(parents=True, exist_ok=True)
    environment["COVERAGE_FILE"] = str(Path(folder).resolve() / "data")
    return ["-m", "coverage", "run", f"--rcfile={TREE / 'pyproject.toml'}"]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
