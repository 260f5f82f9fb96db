"""How the sinks are: what they promise, what they counted, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django_signal_audit.conf import SETTING
from django_signal_audit.sinks import counters, routing, state
from django_signal_audit.sinks.failures import short
from django_signal_audit.sinks.spool import find_spools

if TYPE_CHECKING:
    from pathlib import Path

    from django_signal_audit.sinks.routing import Route
    from django_signal_audit.sinks.spool import Spool, Waiting


@dataclass(frozen=True, slots=True)
class SinkStatus:
    """How one sink is.

    Attributes:
        alias: its key in the settings.
        backend: the name of its class; empty if it is not configured any more.
        promise: what it keeps under its failure policy; empty likewise.
        on_error: the policy; empty likewise.
        counts: its counters, those that are zero left out.
        waiting: how many events are in its spool.
        problems: what is wrong, a sentence each.
    """

    alias: str
    backend: str
    promise: str
    on_error: str
    counts: Mapping[str, int]
    waiting: int
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Status:
    """How all sinks are.

    Attributes:
        sinks: in the order of the settings, then those that are not configured any more.
        is_shared: whether the counters are those of all processes, or of this one alone.
        own_problems: what is wrong with ``STATE_DIR``.
    """

    sinks: tuple[SinkStatus, ...]
    is_shared: bool
    own_problems: tuple[str, ...]

    @property
    def problems(self) -> list[str]:
        """What is wrong, with the alias where it is about a sink."""
        of_sinks = [f"{sink.alias}: {problem}" for sink in self.sinks for problem in sink.problems]
        return [*self.own_problems, *of_sinks]


def current_status() -> Status:
    """Look at every sink, ask those that can be asked, and read the counters.

    Raises:
        AuditConfigurationError: the settings are wrong.
        OSError: the counters or a spool cannot be read.
    """
    routes = {route.alias: route for route in routing.all_routes()}
    directory = state.directory()
    spools = {} if directory is None else find_spools(directory)
    shared = counters.of_all_processes()
    counted = counters.snapshot() if shared is None else shared
    gone = sorted({*spools, *(alias for alias, counts in counted.items() if counts)} - {*routes})
    return Status(
        tuple(
            _status_of(alias, routes.get(alias), counted.get(alias, {}), spools.get(alias))
            for alias in [*routes, *gone]
        ),
        is_shared=shared is not None,
        own_problems=tuple(_own_problems(directory)),
    )


def _own_problems(directory: Path | None) -> Iterator[str]:
    problem = None if directory is None else state.find_problem(directory)
    if problem is not None:
        yield f"{SETTING}['STATE_DIR']: {' '.join(problem)}"


def _status_of(
    alias: str, route: Route | None, counts: Mapping[str, int], spool: Spool | None
) -> SinkStatus:
    problems = [*_counted_problems(counts)]
    waiting = None
    if spool is not None:
        try:
            waiting = spool.waiting()
        except OSError as error:
            problems.append(f"Its spool cannot be read: {error}.")
        else:
            problems += _spool_problems(spool, waiting)
        if route is None:
            problems.append("It is not in SINKS any more, so nothing will take what waits.")
    if route is not None:
        problems += _health(route)
    return SinkStatus(
        alias=alias,
        backend=type(route.sink).__name__ if route else "",
        promise=route.promise if route else "",
        on_error=route.on_error if route else "",
        counts=counts,
        waiting=waiting.events if waiting else 0,
        problems=tuple(problems),
    )


def _health(route: Route) -> list[str]:
    try:
        return route.sink.health()
    except Exception as error:  # noqa: BLE001 - a sink of the user's own may raise anything
        return [f"Its health cannot be told: {type(error).__name__}: {short(error)}"]


def _counted_problems(counts: Mapping[str, int]) -> Iterator[str]:
    if lost := counts.get("lost", 0):
        yield f"{lost} events were lost; the log says which, and why."
    if truncated := counts.get("truncated", 0):
        yield (
            f"Its file was cut {truncated} times by another program; lines that were written "
            "meanwhile may be lost."
        )


def _spool_problems(spool: Spool, waiting: Waiting) -> Iterator[str]:
    if waiting.events:
        since = f" since {waiting.first.timestamp.isoformat()}" if waiting.first else ""
        yield f"{waiting.events} events wait in its spool{since}: {spool.path}."
    if waiting.damaged:
        yield f"{waiting.damaged} lines in its spool are no events: {spool.path}."
