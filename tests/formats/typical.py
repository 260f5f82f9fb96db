"""Events as they come: one of each kind for the golden files, and any content for hypothesis."""

from __future__ import annotations

import dataclasses
import json
import uuid
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import strategies as st

from django_signal_audit.event import REDACTED, Actor, Outcome
from tests.factories import make_event
from tests.strategies import events, texts, values

HERE = Path(__file__).parent

ZOE = Actor("user", "7", "zoe")
CAUSE = uuid.UUID("01847656-34ff-7000-8000-00000000000a")
TRANSACTION = uuid.UUID("01847656-34ff-7000-8000-00000000000b")
REQUEST = {
    "request_id": "4f1c",
    "ip": "192.0.2.7",
    "method": "POST",
    "path": "/orders/5",
    "query": "dry=1",
    "route": "orders/<int:pk>",
    "user_agent": "Mozilla/5.0",
    "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    "span_id": "00f067aa0ba902b7",
}


def facts(name):
    """What a published schema says, as far as we rely on it."""
    return json.loads((HERE / "schemas" / f"{name}.json").read_text(encoding="utf-8"))


def _typical(number, **values):
    return make_event(
        **{
            "id": uuid.UUID(f"01847656-3500-7000-8000-{number:012}"),
            "timestamp": datetime(2022, 11, 14, 13, 31, 12, 345678, tzinfo=UTC),
            "message": values["event"],
        }
        | values
    )


def _of_model(number, act, **values):
    return _typical(
        number,
        **{
            "event": f"model.{act}",
            "sender": "shop.Order",
            "object_type": "shop.order",
            "object_id": "5",
            "object_repr": "Order 5",
            "actor": ZOE,
            "context": REQUEST,
            "database": "default",
            "transaction": TRANSACTION,
        }
        | values,
    )


_NO_OBJECT = {"object_type": None, "object_id": None, "object_repr": ""}

TYPICAL = [
    _of_model(1, "create", changes={"state": [None, "new"], "total": [None, "9.50"]}),
    _of_model(
        2,
        "update",
        changes={"total": ["9.50", "12.00"], "card": [REDACTED, REDACTED], "note": [None, "a\nb"]},
        on_behalf_of=Actor("user", "9", "kim"),
        reason="asked by phone",
    ),
    _of_model(3, "delete", changes={"state": ["new", None]}, actor=None, context={}),
    _of_model(4, "m2m", changes={"tags": {"added": [1, 2], "removed": [3]}}),
    _of_model(
        5,
        "update",
        sender="auth.User",
        object_type="auth.user",
        object_repr="kim",
        changes={"is_staff": [False, True]},
    ),
    _typical(
        6,
        event="auth.login",
        sender="auth.User",
        object_type="auth.user",
        object_id="7",
        object_repr="zoe",
        actor=ZOE,
        context=REQUEST,
    ),
    _typical(
        7,
        event="auth.login_failed",
        level="warning",
        outcome=Outcome.FAILURE,
        sender="django.contrib.auth",
        actor=Actor("anonymous"),
        context=REQUEST,
        data={"username": "zoe"},
        **_NO_OBJECT,
    ),
    _typical(
        8,
        event="http.request",
        sender="shop.views.order",
        actor=ZOE,
        context=REQUEST,
        duration_ms=12.5,
        data={"status": 200},
        **_NO_OBJECT,
    ),
    _typical(
        9,
        event="shift.assigned",
        level="error",
        outcome=Outcome.FAILURE,
        sender="speedy.services.assign",
        message="No shift is free.",
        actor=Actor("service", "3", "planner"),
        error={"type": "ShiftFull", "message": "three employees at most"},
        cause=CAUSE,
        transaction=TRANSACTION,
        database="default",
        duration_ms=3.25,
        rolled_back=True,
        data={"shift": 4, "history": {"$cut": {"size": 9, "sha256": "ab", "head": "x"}}},
    ),
    _typical(
        10,
        event="report.export",
        level="warning",
        outcome=Outcome.DENIED,
        sender="reports.views.export",
        actor=Actor("api_key", "k1", "nightly"),
        context={"command": "export"},
        **_NO_OBJECT,
    ),
]

NAMES = [
    "model.create",
    "model.update",
    "model.delete",
    "model.m2m",
    "model.blind_write",
    "auth.login",
    "auth.login_failed",
    "auth.login.started",
    "auth.logout",
    "auth.password_changed",
    "http.request",
    "shift.assigned",
    "shift.assign.started",
]
OBJECT_TYPES = ["auth.user", "auth.group", "auth.permission", "shop.order"]
ADDRESSES = ["192.0.2.7", "2001:db8::1", "fe80::1%eth0", "unix:", "", "1.2.3"]
KINDS = ["user", "service", "api_key", "task", "command", "system", "anonymous", "robot"]

_some_actors = st.builds(Actor, st.sampled_from(KINDS), st.none() | texts, texts)
_parts = st.dictionaries(
    st.sampled_from(sorted(REQUEST)),
    st.sampled_from([*ADDRESSES, "GET", "PURGE", "/a"]) | values,
    max_size=6,
)


def _vary(event, known, context, transaction):
    return dataclasses.replace(
        event, **known, context={**event.context, **context}, transaction=transaction
    )


varied = st.builds(
    _vary,
    events,
    st.fixed_dictionaries(
        {},
        optional={
            "event": st.sampled_from(NAMES),
            "object_type": st.sampled_from(OBJECT_TYPES),
            "actor": _some_actors,
            "data": st.dictionaries(st.sampled_from(["username", "n"]) | texts, values, max_size=3),
        },
    ),
    _parts,
    st.none() | st.just(TRANSACTION),
)
"""Events of any content, among them those of the kinds that formats know."""
