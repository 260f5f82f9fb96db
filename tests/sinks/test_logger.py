from __future__ import annotations

import io
import json
import logging
import threading

import pytest
import structlog
from django.core import checks
from django.db import connection, transaction
from django.test import override_settings

from django_signal_audit import event_signal
from django_signal_audit.environ import sinks_from_urls
from django_signal_audit.event import EVENT_FIELDS, LEVELS
from django_signal_audit.exceptions import AuditConfigurationError
from django_signal_audit.formats import get_formatter
from django_signal_audit.models import AuditRecord
from django_signal_audit.sinks import LoggerSink, SinkConfig, counters
from tests.factories import make_config, make_event
from tests.sinks.contract import SinkContract
from tests.testapp.models import Author, Book, Chapter

LOGGER = "django_signal_audit.sinks.LoggerSink"


class Records(logging.Handler):
    """Keeps what it is given."""

    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        self.records.append(record)


@pytest.fixture
def handler():
    """A handler of the logger ``audit``, which lets everything pass and propagates nothing."""
    logger = logging.getLogger("audit")
    before = logger.level, logger.propagate
    handler = Records()
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(before[0])
    logger.propagate = before[1]


@pytest.fixture
def structlog_configured():
    """structlog, to be configured by the test."""
    structlog.reset_defaults()
    yield structlog
    structlog.reset_defaults()


def sink_of(format_name="logfmt", level=10, **options):
    return LoggerSink(SinkConfig("audit", get_formatter(format_name), None, level), **options)


class TestContract(SinkContract):
    @pytest.fixture
    def sink(self, handler):
        self.handler = handler
        return sink_of()

    def written(self, sink):
        return [record.audit for record in self.handler.records]

    def test_threads_do_not_mix_their_events(self, sink):
        """Loggers have locks of their own, so that this sink may have none: order is all."""
        start = threading.Barrier(6)

        def write(name):
            start.wait()
            for number in range(15):
                sink.emit([make_event(message=f"{name}:{number}") for _ in range(3)])

        workers = [threading.Thread(target=write, args=(name,)) for name in range(6)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

        messages = [event["message"] for event in self.written(sink)]
        for name in range(6):
            own = [one for one in messages if one.startswith(f"{name}:")]
            assert own == [f"{name}:{number}" for number in range(15) for _ in range(3)]


# logging


def test_a_record_has_the_line_the_level_and_the_event(handler):
    event = make_event(level="warning", data={"a": [1]})
    sink_of().emit([event])
    (record,) = handler.records

    assert record.getMessage() == get_formatter("logfmt")(event).decode()
    assert (record.name, record.levelno, record.args) == ("audit", logging.WARNING, ())
    assert record.audit == event.to_dict()


@pytest.mark.parametrize("level", LEVELS)
def test_each_level_is_that_of_logging(handler, level):
    sink_of().emit([make_event(level=level)])

    assert handler.records[0].levelname == level.upper()


def test_the_message_may_be_the_event_alone(handler):
    sink_of(message="event").emit([make_event(event="shift.assigned")])

    assert handler.records[0].getMessage() == "shift.assigned"


@pytest.mark.parametrize("library", ["stdlib", "structlog"])
def test_the_name_of_an_event_cannot_forge_a_line(handler, structlog_configured, library):
    with structlog_configured.testing.capture_logs() as logs:
        sink_of(library=library, message="event").emit([make_event(event="a\nFAKE \x1b[2J")])

    shown = logs[0]["event"] if logs else handler.records[0].getMessage()
    assert shown == r"a\nFAKE \x1b[2J"


def test_a_percent_sign_is_no_placeholder(handler):
    sink_of("json").emit([make_event(message="100 % of %s %(x)s")])

    assert json.loads(handler.records[0].getMessage())["message"] == "100 % of %s %(x)s"


def test_a_handler_cannot_change_the_event(handler):
    event = make_event(data={"a": [1]})
    sink_of().emit([event])
    handler.records[0].audit["data"]["a"].append(2)

    assert event.data == {"a": [1]}


def test_what_the_logger_does_not_want_it_does_not_get(handler):
    logging.getLogger("audit").setLevel(logging.WARNING)
    sink_of().emit([make_event(), make_event(level="error")])

    assert [record.levelname for record in handler.records] == ["ERROR"]


def test_what_the_format_drops_is_not_logged(handler):
    sink = sink_of("tests.formats.test_base.my_dropping")
    sink.emit([make_event(message="drop"), make_event(message="keep")])

    assert [record.getMessage() for record in handler.records] == ["keep"]


def test_a_json_handler_writes_the_event_as_an_object(handler):
    class JSONFormatter(logging.Formatter):
        def format(self, record):
            return json.dumps({"message": record.getMessage(), "audit": record.audit})

    stream = io.StringIO()
    other = logging.StreamHandler(stream)
    other.setFormatter(JSONFormatter())
    logging.getLogger("audit").addHandler(other)
    event = make_event()
    sink_of(message="event").emit([event])
    logging.getLogger("audit").removeHandler(other)

    assert json.loads(stream.getvalue()) == {"message": event.event, "audit": event.to_dict()}


@pytest.mark.django_db(transaction=True)
def test_a_handler_that_fails_says_so_itself_and_the_event_counts_as_written(handler, capsys):
    class Full(io.StringIO):
        def write(self, text):
            raise OSError("full")

    failing = logging.StreamHandler(Full())
    logging.getLogger("audit").addHandler(failing)
    with override_settings(SIGNAL_AUDIT={"SINKS": {"log": {"BACKEND": LOGGER}}}):
        Author.objects.create(name="a")
    logging.getLogger("audit").removeHandler(failing)

    assert "OSError: full" in capsys.readouterr().err
    assert counters.snapshot() == {"log": {"emitted": 1, "written": 1}}


@pytest.mark.django_db(transaction=True)
def test_a_logger_that_raises_loses_the_event_and_not_the_change(handler, caplog):
    def refuse(record):
        raise OSError("no")

    handler.addFilter(refuse)
    with override_settings(SIGNAL_AUDIT={"SINKS": {"log": {"BACKEND": LOGGER}}}):
        Author.objects.create(name="a")

    assert Author.objects.exists()
    assert counters.snapshot() == {"log": {"emitted": 1, "failed": 1, "lost": 1}}
    assert "Audit sink 'log' (LoggerSink) lost 1 event" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_a_handler_that_writes_audited_models_makes_no_loop(handler):
    class Writing(logging.Handler):
        def emit(self, record):
            Book.objects.create(title=record.audit["event"])
            event_signal.send("handler")

    writing = Writing()
    logging.getLogger("audit").addHandler(writing)
    setting = {
        "SINKS": {
            "log": {"BACKEND": LOGGER},
            "db": {"BACKEND": "django_signal_audit.sinks.DatabaseSink"},
        }
    }
    with override_settings(SIGNAL_AUDIT=setting):
        Author.objects.create(name="a")
        with transaction.atomic():
            Author.objects.create(name="b")
    logging.getLogger("audit").removeHandler(writing)

    assert [record.audit["object_repr"] for record in handler.records] == ["a", "b"]
    assert [record.object_repr for record in AuditRecord.objects.order_by("id")] == ["a", "b"]
    assert Book.objects.count() == 2


class Failing(logging.Handler):
    """Writes a row that refers to none, which PostgreSQL refuses only at COMMIT."""

    def emit(self, record):
        Chapter.objects.create(book_id=0, number=1)


@pytest.mark.django_db(transaction=True)
def test_what_a_handler_writes_after_a_rollback_stays(handler):
    class Writing(logging.Handler):
        def emit(self, record):
            Book.objects.create(title=record.audit["event"])

    writing = Writing()
    logging.getLogger("audit").addHandler(writing)
    with override_settings(SIGNAL_AUDIT={"SINKS": {"log": {"BACKEND": LOGGER}}}):
        with pytest.raises(ZeroDivisionError), transaction.atomic():  # noqa: PT012
            event_signal.send("x", event="tried")
            raise ZeroDivisionError
        Author.objects.create(name="next")
    logging.getLogger("audit").removeHandler(writing)

    assert [book.title for book in Book.objects.order_by("id")] == ["tried", "model.create"]
    assert not connection.in_atomic_block
    assert connection.get_autocommit()


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="needs deferred constraints")
@pytest.mark.django_db(transaction=True)
def test_what_a_handler_cannot_commit_does_not_undo_the_change(handler, caplog):
    failing = Failing()
    logging.getLogger("audit").addHandler(failing)
    with override_settings(SIGNAL_AUDIT={"SINKS": {"log": {"BACKEND": LOGGER}}}):
        Author.objects.create(name="a")
    logging.getLogger("audit").removeHandler(failing)

    assert Author.objects.exists()
    assert not Chapter.objects.exists()
    assert "What a sink wrote after COMMIT was rolled back." in caplog.text


@pytest.mark.django_db(transaction=True)
def test_the_packages_own_logger_makes_no_loop(caplog):
    caplog.set_level(logging.INFO, logger="django_signal_audit")
    sinks = {"log": {"BACKEND": LOGGER, "OPTIONS": {"logger": "django_signal_audit"}}}
    with override_settings(SIGNAL_AUDIT={"SINKS": sinks}):
        Author.objects.create(name="a")

    assert [record.audit["object_repr"] for record in caplog.records] == ["a"]


# structlog


def test_structlog_gets_the_name_and_the_fields(structlog_configured):
    event = make_event(level="error", data={"a": 1})
    with structlog_configured.testing.capture_logs() as logs:
        sink_of(library="structlog").emit([event])

    expected = event.to_dict()
    expected["audit_timestamp"] = expected.pop("timestamp")
    expected["audit_message"] = expected.pop("message")
    expected["log_level"] = expected.pop("level")
    assert logs == [expected]


def test_structlog_over_logging(structlog_configured, handler):
    structlog_configured.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.stdlib.render_to_log_kwargs,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    event = make_event(level="warning")
    sink_of().emit([event])
    (record,) = handler.records

    assert (record.name, record.levelname, record.getMessage()) == (
        "audit",
        "WARNING",
        "test.logging",
    )
    assert record.audit_timestamp == "2022-11-14T13:31:12.000000Z"
    assert record.audit_message == event.message
    assert record.id == str(event.id)
    assert record.timestamp != record.audit_timestamp


def test_structlog_that_prints(structlog_configured):
    stream = io.StringIO()
    structlog_configured.configure(
        processors=[structlog.processors.add_log_level, structlog.processors.JSONRenderer()],
        logger_factory=structlog.PrintLoggerFactory(stream),
    )
    events = [make_event(), make_event(level="critical")]
    sink_of().emit(events)
    logged = [json.loads(line) for line in stream.getvalue().splitlines()]

    for event, said in zip(events, logged, strict=True):
        fields = event.to_dict()
        assert said.pop("audit_timestamp") == fields.pop("timestamp")
        assert said.pop("audit_message") == fields.pop("message")
        assert said == fields
    assert {"audit_timestamp", "audit_message"} & set(EVENT_FIELDS) == set()


def test_what_structlogs_processors_drop_is_dropped(structlog_configured):
    stream = io.StringIO()
    structlog_configured.configure(
        wrapper_class=structlog.make_filtering_bound_logger("error"),
        processors=[structlog.processors.KeyValueRenderer(key_order=["event"])],
        logger_factory=structlog.PrintLoggerFactory(stream),
    )
    sink_of().emit([make_event(), make_event(event="grave", level="error")])

    assert stream.getvalue().startswith("event='grave' ")
    assert len(stream.getvalue().splitlines()) == 1


def test_an_async_logger_is_refused(structlog_configured):
    class Async(structlog.stdlib.BoundLogger):
        async def info(self, event=None, *args, **kw):
            return None

    structlog_configured.configure(wrapper_class=Async)
    with pytest.raises(TypeError, match="structlog's logger 'audit' is async"):
        sink_of().emit([make_event()])


def test_auto_means_structlog_as_soon_as_it_is_configured(structlog_configured, handler):
    stream = io.StringIO()
    sink = sink_of()
    sink.emit([make_event()])
    structlog_configured.configure(
        processors=[structlog.processors.JSONRenderer()],
        logger_factory=structlog.PrintLoggerFactory(stream),
    )
    sink.emit([make_event()])
    sink_of(library="stdlib").emit([make_event()])

    assert len(handler.records) == 2
    assert len(stream.getvalue().splitlines()) == 1


# Checks and mistakes


def test_a_logger_that_drops_what_it_is_given_is_a_warning(handler):
    logging.getLogger("audit").setLevel(logging.WARNING)

    assert sink_of().check() == [
        checks.Warning(
            "Sink 'audit': the logger 'audit' drops events of level INFO.",
            hint="Give it a level of INFO or lower in LOGGING['loggers'], or give the sink a "
            "higher LEVEL.",
            id="django_signal_audit.W206",
        )
    ]
    assert sink_of(level=30).check() == []
    assert sink_of(library="structlog").check() == []
    assert "of level ERROR" not in str(sink_of(level=40).check())


@pytest.mark.parametrize(
    ("options", "problem", "hint"),
    [
        ({"logger": ""}, "logger is ''.", "Write the name of a logger, such as 'audit'."),
        ({"logger": None}, "logger is None.", "Write the name of a logger, such as 'audit'."),
        (
            {"library": "loguru"},
            "library is 'loguru'.",
            "Choose one of 'auto', 'structlog', 'stdlib'.",
        ),
        ({"message": "all"}, "message is 'all'.", "Choose one of 'line', 'event'."),
    ],
)
def test_a_wrong_option_is_refused(options, problem, hint):
    with pytest.raises(AuditConfigurationError) as caught:
        sink_of(**options)

    error = caught.value
    assert (error.problem, error.hint, error.number) == (f"Sink 'audit': {problem}", hint, "E024")


def test_its_format_is_logfmt():
    assert LoggerSink.default_format == "logfmt"
    assert not LoggerSink.development_only
    assert LoggerSink(make_config()).alias == "audit"


def test_a_url_names_the_logger():
    found = sinks_from_urls("logger://shop.audit?library=stdlib&message=event&level=error")

    assert found == {
        "logger": {
            "BACKEND": LOGGER,
            "OPTIONS": {"logger": "shop.audit", "library": "stdlib", "message": "event"},
            "LEVEL": "error",
        }
    }
