from __future__ import annotations

import asyncio
import inspect
import sys
import time
import warnings

import pytest
from asgiref.sync import async_to_sync, iscoroutinefunction, sync_to_async
from django.core.exceptions import PermissionDenied
from django.db import IntegrityError, transaction
from django.db.models.signals import post_migrate, post_save
from django.http import HttpResponse
from django.test import RequestFactory, override_settings
from django.utils.decorators import method_decorator
from django.utils.functional import SimpleLazyObject
from django.views import View

from django_signal_audit import (
    audit_action,
    audit_event,
    audit_signals,
    event_signal,
    set_actor,
)
from django_signal_audit.event import Outcome
from django_signal_audit.exceptions import AuditConfigurationError, AuditSinkError
from django_signal_audit.models import AuditRecord
from django_signal_audit.testing import capture_events
from tests.testapp.models import Account, Author

pytestmark = pytest.mark.django_db
MEMORY = "django_signal_audit.sinks.MemorySink"


@audit_event("shift.assign", arguments=["shift", "employee"])
def assign(shift, employee="nobody", *, note=None):
    """Assign an employee."""
    if note == "raise":
        raise LookupError(f"no shift {shift}")
    return f"{employee} on {shift}"


def recorded(function, *args, **kwargs):
    """The one event of a call, and what it returned or raised."""
    with capture_events() as events:
        try:
            result = function(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - it is compared by the test
            result = error
    (event,) = events
    return event, result


def test_a_success():
    event, result = recorded(assign, 5, employee="zoe")

    assert result == "zoe on 5"
    assert (event.event, event.outcome, event.level) == ("shift.assign", Outcome.SUCCESS, "info")
    assert event.sender == f"{__name__}.assign"
    assert event.data == {"shift": 5, "employee": "zoe"}
    assert event.error is None
    assert event.duration_ms >= 0


def test_a_failure_is_recorded_and_raised_as_it_was():
    event, error = recorded(assign, 5, note="raise")

    assert type(error) is LookupError
    assert (event.outcome, event.level) == (Outcome.FAILURE, "error")
    assert event.error == {"type": "LookupError", "message": "no shift 5"}
    assert event.data == {"shift": 5, "employee": "nobody"}


def test_a_denial():
    @audit_event("door.open")
    def view():
        raise PermissionDenied("not yours")

    event, error = recorded(view)

    assert isinstance(error, PermissionDenied)
    assert (event.outcome, event.level) == (Outcome.DENIED, "warning")
    assert event.error == {"type": "PermissionDenied", "message": "not yours"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, GeneratorExit])
def test_what_ends_the_process_is_recorded_too(error):
    @audit_event("a.b")
    def function():
        raise error

    event, raised = recorded(function)

    assert type(raised) is error
    assert event.error["type"] == error.__name__


@pytest.mark.parametrize("code", [None, 0, False])
def test_a_program_that_exits_well_is_a_success(code):
    @audit_event("a.b")
    def function():
        sys.exit(code)

    event, raised = recorded(function)

    assert type(raised) is SystemExit
    assert (event.outcome, event.level, event.error) == (Outcome.SUCCESS, "info", None)


@pytest.mark.parametrize("code", [1, "usage: ...", 0.0])
def test_a_program_that_exits_otherwise_is_a_failure(code):
    @audit_event("a.b")
    def function():
        sys.exit(code)

    event, _ = recorded(function)

    assert event.outcome is Outcome.FAILURE
    assert event.error == {"type": "SystemExit", "message": str(code)}


# Responses


@pytest.mark.parametrize("kind", ["sync", "async", "coroutine"])
@pytest.mark.parametrize(
    ("status", "outcome", "level"),
    [
        (200, Outcome.SUCCESS, "info"),
        (302, Outcome.SUCCESS, "info"),
        (401, Outcome.DENIED, "warning"),
        (403, Outcome.DENIED, "warning"),
        (404, Outcome.FAILURE, "error"),
        (500, Outcome.FAILURE, "error"),
    ],
)
def test_the_status_of_a_response_says_how_a_view_ended(kind, status, outcome, level):
    @audit_event("a.b")
    def view(request):
        return HttpResponse(status=status)

    async def work(request):
        return HttpResponse(status=status)

    awork = audit_event("a.b")(work)
    if kind == "coroutine":

        @audit_event("a.b")
        def awork(request):
            return work(request)

    async def main(request):
        return await awork(request)

    event, response = recorded(view if kind == "sync" else async_to_sync(main), None)

    assert response.status_code == status
    assert (event.outcome, event.level, event.error) == (outcome, level, None)
    assert event.data == {"status": status}


def test_an_argument_of_that_name_stands_and_a_status_may_be_none():
    @audit_event("a.b", arguments=["status"])
    def view(status):
        response = HttpResponse(status=404)
        response.status_code = status
        return response

    assert recorded(view, 403)[0].data == {"status": 403}
    assert recorded(view, "open")[0].outcome is Outcome.SUCCESS


def test_a_lazy_result_is_not_evaluated():
    @audit_event("a.b")
    def function():
        return SimpleLazyObject(lambda: evaluated.append(1))

    evaluated = []
    event, _ = recorded(function)
    assert (event.outcome, evaluated) == (Outcome.SUCCESS, [])


def test_the_duration_is_that_of_the_call():
    @audit_event("a.b")
    def function():
        time.sleep(0.03)

    assert 29 <= recorded(function)[0].duration_ms < 5000


def test_it_looks_like_the_function_it_wraps():
    assert assign.__name__ == "assign"
    assert assign.__doc__ == "Assign an employee."


# Arguments


def test_arguments_are_those_of_the_moment_of_the_call():
    @audit_event("a.b", arguments=["rows"])
    def function(rows):
        rows.clear()

    assert recorded(function, [1, 2])[0].data == {"rows": [1, 2]}


def test_secret_arguments_are_masked_also_where_the_exception_quotes_them():
    @audit_event("a.b", arguments=["password"])
    def function(password):
        raise ValueError(f"{password} is too short")

    event, _ = recorded(function, "hunter22")

    assert event.data == {"password": "[redacted]"}
    assert event.error["message"] == "[redacted] is too short"


def test_secret_arguments_that_are_not_kept_leave_every_text():
    @audit_event("log.in", arguments=["user", "note"])
    def log_in(user, password, note="", *, otp="482913", **more):
        raise ValueError(f"{password}, {otp} and {more} for {user}?")

    event, error = recorded(log_in, "zoe", "hunter22", "hunter22!", api_token="tok-1")
    assert "hunter22" in str(error)
    assert event.data == {"user": "zoe", "note": "[redacted]!"}
    for secret in ("hunter22", "tok-1", "482913"):
        assert secret not in str(event)
    assert "for zoe?" in event.error["message"]
    assert "hunter33" not in str(recorded(log_in, "zoe", password="hunter33")[0])


def test_which_names_are_secret_is_what_the_settings_say_at_the_call():
    @audit_event("a.b")
    def function(colour, number):
        raise ValueError(f"{colour} {number}")

    def message(*args):
        return recorded(function, *args)[0].error["message"]

    assert message("crimson", 5) == "crimson 5"
    with override_settings(SIGNAL_AUDIT={"SENSITIVE_NAMES": ["colour"]}):
        assert message("crimson", 5) == "[redacted] 5"
    assert message("crimson", 5) == "crimson 5"


def test_secrets_of_a_wrong_call_are_still_known():
    @audit_event("log.in")
    def log_in(user, password):
        return user

    event, error = recorded(log_in, password="hunter22", hunter22=1)
    assert "hunter22" in str(error)
    assert "hunter22" not in event.error["message"]


def test_what_tells_no_signature_is_called_as_it_is():
    make = audit_event("a.b", arguments=["x"])(_Untold())
    event, result = recorded(make, 5, x=6, password="hunter22")
    assert result == ((5,), {"x": 6, "password": "hunter22"})
    assert event.data == {"x": 6}


class _Untold:
    __signature__ = "none"
    __qualname__ = "untold"
    __module__ = __name__

    def __call__(self, *args, **kwargs):
        return args, kwargs


def test_a_wrong_call_fails_as_without_the_decorator_and_is_recorded():
    event, error = recorded(assign)

    assert isinstance(error, TypeError)
    assert "assign() missing 1 required positional argument: 'shift'" in str(error)
    assert event.outcome is Outcome.FAILURE
    assert event.data == {}


def test_arguments_among_keyword_arguments():
    @audit_event("a.b", arguments=["pk", "missing"])
    def function(request, **kwargs):
        return kwargs

    assert recorded(function, None, pk=5, other=6)[0].data == {"pk": 5}


class Service:
    @audit_event("service.run", arguments=["amount"])
    def run(self, amount):
        return amount

    @audit_event("service.make", arguments=["amount"])
    @classmethod
    def make(cls, amount):
        return cls, amount

    @audit_event("service.add", arguments=["amount"])
    @staticmethod
    def add(amount):
        return amount

    def plain(self, amount):
        return amount


def test_methods_of_every_kind():
    event, result = recorded(Service().run, 5)
    assert (event.data, result) == ({"amount": 5}, 5)
    assert event.sender == f"{__name__}.Service.run"

    event, result = recorded(Service.make, 5)
    assert (event.data, result) == ({"amount": 5}, (Service, 5))

    event, result = recorded(Service.add, amount=5)
    assert (event.data, result) == ({"amount": 5}, 5)

    bound = audit_event("service.bound", arguments=["amount"])(Service().plain)
    event, result = recorded(bound, 5)
    assert (event.data, result) == ({"amount": 5}, 5)


@pytest.mark.parametrize("awaits", [False, True])
def test_methods_of_class_based_views(awaits):
    decorator = method_decorator(audit_event("view.get", arguments=["pk"]), name="get")
    if awaits:

        @decorator
        class AView(View):
            async def get(self, request, pk):
                return HttpResponse(str(pk))

        view = async_to_sync(AView.as_view())
    else:

        @decorator
        class AView(View):
            def get(self, request, pk):
                return HttpResponse(str(pk))

        view = AView.as_view()

    event, response = recorded(view, RequestFactory().get("/"), pk=5)
    assert response.content == b"5"
    assert event.data == {"pk": 5, "status": 200}


# Async


def test_async_functions():
    @audit_event("a.b", arguments=["x"])
    async def function(x):
        await asyncio.sleep(0.01)
        if x:
            raise LookupError(x)
        await sync_to_async(Author.objects.create)(name="inner")
        return "done"

    assert iscoroutinefunction(function)
    event, error = recorded(async_to_sync(function), "why")
    assert isinstance(error, LookupError)
    assert event.error == {"type": "LookupError", "message": "why"}
    with capture_events() as events:
        assert async_to_sync(function)(0) == "done"
    assert [e.event for e in events] == ["model.create", "a.b"]
    assert events[0].cause == events[1].id
    assert events[1].duration_ms >= 9


def test_a_cancelled_call_is_recorded():
    @audit_event("a.b")
    async def function():
        await asyncio.sleep(10)

    async def main():
        task = asyncio.create_task(function())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    event, _ = recorded(async_to_sync(main))
    assert (event.outcome, event.error["type"]) == (Outcome.FAILURE, "CancelledError")


def test_a_closed_coroutine_is_recorded():
    @audit_event("a.b")
    async def function():
        await asyncio.Event().wait()

    async def main():
        coroutine = function()
        coroutine.send(None)
        coroutine.close()

    event, _ = recorded(async_to_sync(main))
    assert event.error["type"] == "GeneratorExit"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("note", [None, "raise"])
def test_a_sync_function_called_in_a_loop_keeps_its_result_and_is_recorded(note):
    async def main():
        with set_actor("worker"):
            return assign(5, note=note)

    if note is None:
        assert async_to_sync(main)() == "nobody on 5"
    else:
        with pytest.raises(LookupError, match="no shift 5"):
            async_to_sync(main)()

    record = AuditRecord.objects.get()
    assert (record.event, record.actor_id) == ("shift.assign", "worker")
    assert record.outcome == ("failure" if note else "success")
    assert record.data == {"shift": 5, "employee": "nobody"}


@pytest.mark.django_db(transaction=True)
def test_a_sync_function_called_in_a_loop_keeps_its_result_when_the_trail_fails(
    monkeypatch, caplog
):
    def fail(*args, **kwargs):
        raise OSError("disk full")

    async def main():
        return assign(5)

    monkeypatch.setattr("django_signal_audit.sinks.DatabaseSink.write", fail)
    assert async_to_sync(main)() == "nobody on 5"
    assert "An audit event was lost." in caplog.text


def test_a_coroutine_that_is_closed_when_its_loop_is_gone_is_recorded():
    @audit_event("a.b")
    async def function():
        await asyncio.Event().wait()

    async def main():
        coroutine = function()
        coroutine.send(None)
        return coroutine

    coroutine = async_to_sync(main)()
    with capture_events() as events:
        coroutine.close()
    assert events[0].error["type"] == "GeneratorExit"


# Sync functions that return a coroutine, such as View.dispatch


class AsyncView(View):
    async def get(self, request):
        await Author.objects.acreate(name="in the view")
        await asyncio.sleep(0.01)
        if "fail" in request.GET:
            raise LookupError("no shift")
        return HttpResponse("done")


def view_under(way):
    if way == "method_decorator":
        return method_decorator(audit_event("view.run"), name="dispatch")(
            type("Decorated", (AsyncView,), {})
        )
    decorator = audit_event("view.run") if way == "audit_event" else audit_action("view.run")

    class Overriding(AsyncView):
        @decorator
        def dispatch(self, request, *args, **kwargs):
            return super().dispatch(request, *args, **kwargs)

    return Overriding


@pytest.mark.parametrize("way", ["audit_event", "audit_action", "method_decorator"])
def test_an_async_view_decorated_at_dispatch_is_an_act_until_it_is_done(way):
    view = async_to_sync(view_under(way).as_view())
    with capture_events() as events:
        assert view(RequestFactory().get("/")).content == b"done"
        with pytest.raises(LookupError, match="no shift"):
            view(RequestFactory().get("/?fail"))

    first, done, second, failed = events
    assert [first.event, done.event] == ["model.create", "view.run"]
    assert (first.cause, second.cause) == (done.id, failed.id)
    assert (done.outcome, done.data) == (Outcome.SUCCESS, {"status": 200})
    assert (failed.outcome, failed.error["message"]) == (Outcome.FAILURE, "no shift")
    assert done.duration_ms >= 9


def test_a_returned_coroutine_that_is_never_awaited_is_not_recorded_but_warned_of():
    async def work():
        raise AssertionError("it is never awaited")

    @audit_event("a.b")
    def function():
        return work()

    with capture_events() as events, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        made = inspect.iscoroutine(function())
        messages = [str(warning.message) for warning in warned]
        # The warning keeps what it is about, and that keeps what it would have awaited.
        warned.clear()
        messages += [str(warning.message) for warning in warned]
    assert made
    assert events == []
    assert messages == [f"coroutine '{work.__qualname__}' was never awaited"] * 2


def test_a_returned_task_goes_on_by_itself():
    async def work():
        return 5

    @audit_event("a.b")
    def function():
        return asyncio.get_running_loop().create_task(work())

    async def main():
        task = function()
        assert isinstance(task, asyncio.Task)
        return await task

    event, result = recorded(async_to_sync(main))
    assert (event.outcome, result) == (Outcome.SUCCESS, 5)


def test_a_returned_coroutine_that_is_cancelled_is_recorded():
    async def work():
        await asyncio.sleep(10)

    @audit_event("a.b")
    def function():
        return work()

    async def main():
        task = asyncio.create_task(function())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    event, _ = recorded(async_to_sync(main))
    assert (event.outcome, event.error["type"]) == (Outcome.FAILURE, "CancelledError")


# Causes and transactions


def test_inner_events_carry_the_call_as_their_cause():
    @audit_event("inner")
    def inner():
        Author.objects.create(name="a")

    @audit_event("outer")
    def outer():
        event_signal.send("x", event="first")
        inner()

    with capture_events() as events:
        outer()
    event_signal.send("x")

    by_name = {event.event: event for event in events}
    assert by_name["outer"].cause is None
    assert by_name["first"].cause == by_name["inner"].cause == by_name["outer"].id
    assert by_name["model.create"].cause == by_name["inner"].id


@pytest.mark.django_db(transaction=True)
def test_a_failed_call_in_a_transaction_survives_its_rollback_marked():
    @transaction.atomic
    @audit_event("a.b")
    def function():
        Author.objects.create(name="a")
        raise LookupError("no")

    with pytest.raises(LookupError):
        function()

    record = AuditRecord.objects.get()
    assert (record.event, record.outcome, record.rolled_back) == ("a.b", "failure", True)
    assert not Author.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_success_inside_of_an_outer_rollback_is_marked():
    with transaction.atomic():
        assign(5)
        transaction.set_rollback(True)

    record = AuditRecord.objects.get()
    assert (record.outcome, record.rolled_back) == ("success", True)


@pytest.mark.django_db(transaction=True)
def test_a_failure_around_its_own_transaction_is_not_marked():
    @audit_event("a.b")
    def function():
        with transaction.atomic():
            Author.objects.create(name="a")
            raise LookupError("no")

    with pytest.raises(LookupError):
        function()

    record = AuditRecord.objects.get()
    assert (record.outcome, record.rolled_back) == ("failure", False)


@pytest.mark.django_db(transaction=True)
def test_a_unique_token_that_the_database_quotes_is_masked():
    @audit_event("a.b")
    def function():
        raise IntegrityError(
            'duplicate key value violates unique constraint "account_api_token_key"\n'
            "DETAIL:  Key (api_token)=(tok-1234, 5) already exists.\n"
        )

    with pytest.raises(IntegrityError):
        function()

    record = AuditRecord.objects.get()
    assert "tok-1234" not in record.error["message"]
    assert "Key (api_token)=([redacted]) already exists." in record.error["message"]


@pytest.mark.django_db(transaction=True)
def test_a_real_integrity_error_inside_of_an_outer_transaction():
    Account.objects.create(email="a@example.org")

    @audit_event("a.b")
    def function():
        Account.objects.create(email="a@example.org", api_token="tok-123456")

    with pytest.raises(IntegrityError), transaction.atomic():
        function()

    record = AuditRecord.objects.get(event="a.b")
    assert (record.error["type"], record.rolled_back) == ("IntegrityError", True)


@pytest.mark.django_db(transaction=True)
def test_when_the_trail_fails_the_calls_own_exception_is_the_one_raised(monkeypatch, caplog):
    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr("django_signal_audit.sinks.DatabaseSink.write", fail)
    with pytest.raises(LookupError, match="no shift"):
        assign(5, note="raise")
    assert "assign (LookupError) could not be recorded as event " in caplog.text
    assert "disk full" in caplog.text
    with pytest.raises(AuditSinkError, match="disk full"):
        assign(5)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("kind", ["sync", "async", "sync in a loop"])
def test_when_the_trail_fails_the_log_does_not_quote_the_calls_own_exception(
    monkeypatch, caplog, kind
):
    def fail(*args, **kwargs):
        try:
            {}["the driver's"]
        except KeyError as exc:
            raise OSError("disk full") from exc

    monkeypatch.setattr("django_signal_audit.sinks.DatabaseSink.write", fail)

    @audit_event("log.in")
    def log_in():
        raise ValueError("bad password 'CANARY'")

    @audit_event("log.in")
    async def alog_in():
        raise ValueError("bad password 'CANARY'")

    async def in_a_loop():
        log_in()

    call = {"sync": log_in, "async": async_to_sync(alog_in)}.get(kind, async_to_sync(in_a_loop))
    with pytest.raises(ValueError, match="CANARY") as caught:
        call()

    assert caught.value.__context__ is None
    assert "disk full" in caplog.text
    assert "the driver's" in caplog.text
    assert "CANARY" not in caplog.text


def test_level_and_sinks():
    sinks = {"a": {"BACKEND": MEMORY, "EVENTS": ["x.y"]}, "b": {"BACKEND": MEMORY}}
    with override_settings(SIGNAL_AUDIT={"SINKS": sinks}):

        @audit_event("x.y", level="debug", sinks=["a"])
        def function():
            return None

        assert recorded(function)[0].level == "debug"


# Mistakes


def generator():
    yield


async def async_generator():
    yield


@pytest.mark.parametrize(
    ("arguments", "function", "message"),
    [
        ({"event": assign}, None, "needs the event's name: @audit_event"),
        ({"event": ""}, None, "the event.s name is .* Write a text"),
        ({"event": 5}, None, "the event.s name is .* Write a text"),
        ({"event": "a", "level": "warn"}, None, r"Did you mean 'warning'\?"),
        ({"event": "a", "sinks": "default"}, None, "sinks is .default.. Write a list of names"),
        ({"event": "a", "arguments": "x"}, None, "arguments is .x.. Write a list of names"),
        ({"event": "a", "sinks": 5}, None, r"sinks is 5. Write a list of names, such as \['def"),
        ({"event": "a", "sinks": [5]}, None, r"sinks is \[5\]. Write a list of names"),
        ({"event": "a", "sinks": []}, None, "sinks is empty, .* Leave it out for all sinks"),
        ({"event": "a", "arguments": 5}, None, "arguments is 5. Write a list of names"),
        ({"event": "a", "arguments": None}, None, "arguments is None. Write a list of names"),
        ({"event": "a", "started": "yes"}, None, "started is 'yes'. Write started=True"),
        ({"event": "a", "using": 5}, None, "using is 5. Write an alias of DATABASES"),
        ({"event": "a", "arguments": ["shif"]}, assign, r"has no argument 'shif'. Did you mean"),
        ({"event": "a"}, Service, "not on the class Service"),
        ({"event": "a"}, generator, "cannot tell when the generator generator is done"),
        ({"event": "a"}, async_generator, "cannot tell when the generator"),
    ],
)
def test_a_wrong_use_is_refused_where_it_is_written(arguments, function, message):
    with pytest.raises(AuditConfigurationError, match=message):
        audit_event(**arguments)(function)


def test_audit_signals_needs_signals_and_a_list_of_sinks():
    with pytest.raises(AuditConfigurationError, match="needs the signals to record"):
        audit_signals(Author)
    with pytest.raises(AuditConfigurationError, match="needs the signals to record"):
        audit_signals()
    with pytest.raises(AuditConfigurationError, match="serves pre_save"):
        audit_signals(post_migrate)
    with pytest.raises(AuditConfigurationError, match=r"sinks is 'default'. Write a list of names"):
        audit_signals(post_save, sinks="default")
    with pytest.raises(AuditConfigurationError, match=r"sinks is 5. Write a list of names"):
        audit_signals(post_save, sinks=5)
    with pytest.raises(AuditConfigurationError, match="belongs on a model class"):
        audit_signals(post_save)(5)
