"""``manage.py audit_spool``: what waits, and another try."""

from __future__ import annotations

import io
import uuid

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from django_signal_audit.management.commands.audit_spool import Command
from django_signal_audit.sinks import FileSink, MemorySink, counters, routing
from django_signal_audit.sinks.spool import Spool
from tests.factories import make_event

NEXT = "event test.logging of speedy.employees 72"


class Choosy(MemorySink):
    """Takes all events but those whose message is ``refused``."""

    refused = None
    error = OSError("never that one.")

    def emit(self, events):
        if any(event.message == self.refused for event in events):
            raise self.error
        super().emit(events)


@pytest.fixture(autouse=True)
def spool(tmp_path):
    setting = {
        "STATE_DIR": tmp_path / "state",
        "SINKS": {
            "siem": {"BACKEND": Choosy, "ON_ERROR": "spool"},
            "second": {"BACKEND": Choosy},
        },
    }
    with override_settings(SIGNAL_AUDIT=setting):
        yield Spool(tmp_path / "state", "siem")
    Choosy.refused, Choosy.error = None, OSError("never that one.")


def run(**options):
    out = io.StringIO()
    call_command("audit_spool", stdout=out, **options)
    return out.getvalue()


def refusal(**options):
    with pytest.raises(CommandError) as refused:
        run(**options)
    return str(refused.value)


def messages(alias):
    [sink] = [route.sink for route in routing.all_routes() if route.alias == alias]
    return [event.message for event in sink.events]


def test_it_shows_what_waits_and_changes_nothing(spool):
    assert run() == "Nothing waits.\n"
    event = make_event()
    spool.append([event, make_event()])
    with spool.path.open("ab") as file:
        file.write(b"torn\n")

    assert run() == (
        f"siem: 2 events wait, next 1 event, {NEXT[6:]} (id {event.id}): {spool.path}.\n"
        "siem: 1 damaged lines.\n"
    )
    assert spool.waiting().events == 2


def test_it_delivers_what_waits_in_order(spool):
    spool.append([make_event(message=str(number)) for number in range(3)])

    assert run(flush=True) == "Delivered 3 events to 'siem'.\n"
    assert messages("siem") == ["0", "1", "2"]
    assert run(flush=True) == "Nothing waits.\n"
    assert counters.snapshot() == {"siem": {"written": 3}}


def test_an_event_that_the_sink_refuses_holds_up_the_rest_until_it_is_skipped(spool):
    Choosy.refused = "1"
    events = [make_event(message=str(number)) for number in range(3)]
    spool.append(events)

    assert refusal(flush=True) == (
        f"'siem' still cannot write 1 event, {NEXT[6:]} (id {events[1].id}): never that one. "
        f"That and what follows wait in {spool.path}."
    )
    assert messages("siem") == ["0"]
    assert run(skip=str(events[1].id), sink="siem") == (
        f"Moved event {events[1].id} to {spool.skipped_path}.\n"
    )
    run(flush=True)
    assert messages("siem") == ["0", "2"]
    assert counters.snapshot()["siem"] == {"written": 2, "failed": 1, "dropped": 1}


def test_one_event_of_a_transaction_that_is_refused_is_found_singly(spool):
    Choosy.refused = "1"
    one = uuid.uuid4()
    events = [make_event(message=str(number), transaction=one) for number in range(3)]
    spool.append(events)

    assert "Which one it is about, --singly tells." in refusal(flush=True)
    assert f"1 event, {NEXT[6:]} (id {events[1].id})" in refusal(flush=True, singly=True)
    assert messages("siem") == ["0"]


def test_it_runs_while_a_sink_is_broken(spool, tmp_path, capsys):
    """As on the command line, where Django runs the system checks before most commands."""
    sinks = {"siem": {"BACKEND": Choosy}, "broken": {"BACKEND": FileSink}}
    sinks["broken"]["OPTIONS"] = {"path": str(tmp_path)}
    spool.append([make_event()])
    with override_settings(SIGNAL_AUDIT={"STATE_DIR": spool.path.parent, "SINKS": sinks}):
        Command().run_from_argv(["manage.py", "audit_spool", "--flush"])
    assert capsys.readouterr().out == "Delivered 1 event to 'siem'.\n"


def test_what_is_to_be_skipped_must_be_the_next_one(spool):
    event = make_event()
    spool.append([make_event(), event])

    assert refusal(skip=str(event.id), sink=["siem"]) == (
        f"Event {event.id} is not the next one in the spool of 'siem'; audit_spool without options "
        "shows which one is."
    )
    assert refusal(skip=str(event.id), sink=["second"]).startswith(f"Event {event.id} is not")
    assert refusal(skip="1", sink=["siem"]) == (
        "--skip '1' is no id of an event. Write the one that is next; audit_spool without options "
        "shows it."
    )
    assert refusal(skip=str(uuid.uuid4())) == "--skip needs one --sink, whose spool is meant."


def test_damaged_lines_are_put_aside_and_said(spool):
    spool.append([make_event()])
    with spool.path.open("ab") as file:
        file.write(b"torn\n")

    assert refusal(flush=True) == (
        f"1 lines in the spool of 'siem' are no events; they were moved to {spool.skipped_path}."
    )
    assert messages("siem") != []
    assert run(flush=True) == "Nothing waits.\n"


def test_only_the_sinks_that_are_named(spool):
    second = Spool(spool.path.parent, "second")  # its policy was another one before
    for one in (spool, second):
        one.append([make_event()])

    assert run(flush=True, sink=["second"]) == "Delivered 1 event to 'second'.\n"
    assert spool.waiting().events == 1
    assert refusal(sink=["simm"]) == "There is no audit sink 'simm'. Did you mean 'siem'?"


def test_a_spool_whose_sink_is_gone(spool):
    gone = Spool(spool.path.parent, "gone")
    gone.append([make_event()])

    assert run(sink=["gone"]).endswith(f": {gone.path}. It is not in SINKS any more.\n")
    assert refusal(flush=True) == (
        f"'gone' is not in SINKS any more. Add the sink again, or move {gone.path} elsewhere; its "
        "lines are events in the json format."
    )


def test_while_another_process_delivers(spool):
    spool.append([make_event()])
    with spool._delivering():
        assert refusal(flush=True) == "Another process is just delivering the spool of 'siem'."


def test_ctrl_c_ends_it(spool):
    spool.append([make_event(message="1")])
    Choosy.refused, Choosy.error = "1", KeyboardInterrupt()

    with pytest.raises(KeyboardInterrupt):
        run(flush=True)
    assert spool.waiting().events == 1


def test_without_a_directory_there_are_no_spools():
    with override_settings(SIGNAL_AUDIT={"SINKS": {}}):
        assert refusal() == (
            "There are no spools: SIGNAL_AUDIT['STATE_DIR'] is not set. Set it, and give a sink "
            "'ON_ERROR': 'spool'."
        )


def test_without_sinks(tmp_path):
    with override_settings(SIGNAL_AUDIT={"SINKS": {}, "STATE_DIR": tmp_path}):
        assert refusal(sink=["a"]) == "There is no audit sink 'a': SINKS is empty."


def test_wrong_settings_are_told_of_as_everywhere():
    with override_settings(SIGNAL_AUDIT={"SINKS": {"a": {"BACKEND": "MemorySnk"}}}):
        assert "Did you mean" in refusal()


def test_a_spool_that_cannot_be_read(spool):
    spool.path.parent.mkdir()
    spool.path.mkdir()

    assert refusal().startswith("A spool cannot be read or written: ")
