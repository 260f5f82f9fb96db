"""Which part of the trail a command is asked for: its options, and what they mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from django.core.management.base import CommandError

from django_signal_audit.management import arguments
from django_signal_audit.trail_filter import TrailFilter

if TYPE_CHECKING:
    from argparse import ArgumentParser

_OPTIONS: Final = ("since", "until", "model", "object", "actor", "event", "database")


@dataclass(frozen=True)
class Selection:
    """What was asked for.

    Attributes:
        said: the options that were given, as they were given.
        trail_filter: what they say about events.
        databases: the aliases to read; none means all that hold a trail.
        unknown_model: the label of a model that is not installed, if one was named.
    """

    said: dict[str, Any]
    trail_filter: TrailFilter
    databases: list[str]
    unknown_model: str | None

    def refuse_empty(self, *, allowed: bool) -> None:
        """Say that no event was found.

        Args:
            allowed: whether that is all right; of an unknown model it never is.

        Raises:
            CommandError: it is not.
        """
        if self.unknown_model:
            raise CommandError(
                f"There is no model {self.unknown_model!r}, and no audit event of it; nothing was "
                f"written. {arguments.model_advice(self.unknown_model)}"
            )
        if allowed:
            return
        if self.said:
            words = " ".join(
                f"--{name} {value}"
                for name, values in self.said.items()
                for value in (values if isinstance(values, list | tuple) else [values])
            )
            raise CommandError(
                f"No audit events match {words}; nothing was written. Widen the filter, or allow "
                "an empty export with --allow-empty."
            )
        raise CommandError(
            "The trail holds no audit events; nothing was written. Allow an empty export with "
            "--allow-empty."
        )


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--since",
        metavar="WHEN",
        help="First moment included: an ISO date or time, or an age such as 2h or 7d.",
    )
    parser.add_argument(
        "--until", metavar="WHEN", help="First moment left out; a date is the start of its day."
    )
    parser.add_argument("--model", metavar="APP.MODEL", help="Events of this model only.")
    parser.add_argument(
        "--object",
        metavar="APP.MODEL:KEY",
        help="Events of one object only; just its key if --model is given.",
    )
    parser.add_argument(
        "--actor", help="What one actor did: type:id (user:5), an id, or a label (a username)."
    )
    parser.add_argument(
        "--event",
        action="append",
        metavar="PATTERN",
        help="Events of this name only, such as 'model.*'; may be repeated.",
    )
    parser.add_argument(
        "--database",
        action="append",
        metavar="ALIAS",
        help="Read this database only; may be repeated. Default: all that hold a trail.",
    )


def read_selection(options: dict[str, Any]) -> Selection:
    """Read the options.

    Raises:
        CommandError: one of them cannot be understood.
    """
    said = {name: options[name] for name in _OPTIONS if options[name] not in (None, [], ())}
    trail_filter, unknown_model = _read_filter(said)
    databases = arguments.parse_databases(options["database"])
    return Selection(said, trail_filter, databases, unknown_model)


def _read_filter(said: dict[str, Any]) -> tuple[TrailFilter, str | None]:
    """The filter, and the label of a model in it that is not installed."""
    values: dict[str, Any] = {
        name: arguments.parse_moment(f"--{name}", said.get(name)) for name in ("since", "until")
    }
    if values["since"] and values["until"] and values["since"] >= values["until"]:
        raise CommandError(
            f"--since {said['since']} is not before --until {said['until']}. Write the earlier "
            "moment after --since; --until is the first moment left out."
        )
    for name in ("model", "object", "actor"):
        if said.get(name) == "":
            raise CommandError(f"--{name} is empty. Write what to look for, or leave it out.")
    label = said.get("model")
    if "object" in said:
        values["object_type"], values["object_id"] = arguments.parse_object(said["object"], label)
        label = label or str(said["object"]).partition(":")[0]
    elif label:
        values["object_type"] = arguments.parse_model(label)[0]
    unknown = label if label and arguments.parse_model(label)[1] is None else None
    values["actor"] = said.get("actor")
    values["event"] = tuple(arguments.as_list(said.get("event")))
    if "" in values["event"]:
        raise CommandError("--event is empty. Write a name or a pattern such as 'model.*'.")
    return TrailFilter(**values), unknown
