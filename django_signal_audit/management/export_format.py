"""How an export is written: ``--format``, the options of formats, and what a file's name says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from django.core.management.base import CommandError

from django_signal_audit import conf
from django_signal_audit.exports import BaseExporter, exporters
from django_signal_audit.exports.base import options_of

if TYPE_CHECKING:
    from argparse import ArgumentParser

DEFAULT: Final = "jsonl"


def add_arguments(parser: ArgumentParser) -> None:
    """Declare ``--format``, and the options of all formats."""
    known = exporters()
    parser.add_argument(
        "--format",
        metavar="NAME",
        help=f"{', '.join(known)}. Default: what the name of the file ends in, else {DEFAULT}.",
    )
    for name, takers in _takers(known).items():
        meaning = options_of(known[takers[0]])[name]
        parser.add_argument(
            _flag(name), action="store_true", help=f"With {' or '.join(takers)}: {meaning}."
        )


def choose_exporter(options: dict[str, Any], output: str) -> BaseExporter:
    """The exporter that was asked for.

    Args:
        options: the options of the command.
        output: the path of the file.

    Raises:
        CommandError: there is no such format, it has not the option that was given, or the
            name of the file says another one.
    """
    known = exporters()
    said = options["format"]
    named = _named_by(output, known)
    if said is None:
        chosen = named or DEFAULT
    elif said not in known:
        raise CommandError(f"There is no format {said!r}. {conf.nearest(said, known)}")
    else:
        chosen = str(said)
    if named and named != chosen:
        raise CommandError(
            f"--format {chosen} contradicts --output {output}, which is the name of a {named} "
            f"file. Leave out --format, or end the name in {known[chosen].suffixes[0]}."
        )
    wanted = {name: takers for name, takers in _takers(known).items() if options[name]}
    for name, takers in wanted.items():
        if chosen not in takers:
            raise CommandError(
                f"{_flag(name)} belongs to --format {' or '.join(takers)}, not to {chosen}. Add "
                f"--format {takers[0]}, or leave out {_flag(name)}."
            )
    return known[chosen](**dict.fromkeys(wanted, True))


def _named_by(output: str, known: dict[str, type[BaseExporter]]) -> str | None:
    """The format that the name of a file stands for."""
    suffix = Path(output).suffix.lower()
    return next((name for name, one in known.items() if suffix in one.suffixes), None)


def _takers(known: dict[str, type[BaseExporter]]) -> dict[str, list[str]]:
    """Option to the formats that have it."""
    found: dict[str, list[str]] = {}
    for format_name, exporter in known.items():
        for name in options_of(exporter):
            found.setdefault(name, []).append(format_name)
    return found


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
