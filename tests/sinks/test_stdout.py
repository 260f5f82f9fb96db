from __future__ import annotations

import io
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import orjson
import pytest
import structlog

from django_signal_audit.exceptions import AuditConfigurationError
from django_signal_audit.formats import get_formatter
from django_signal_audit.formats.base import get_terminal_formatter
from django_signal_audit.sinks.base import SinkConfig
from django_signal_audit.sinks.entries import build_route
from django_signal_audit.sinks.stdout import StdoutSink
from tests.factories import make_config, make_event
from tests.sinks.contract import SinkContract

ROOT = Path(__file__).resolve().parents[2]


def run(script, **options):
    """Run a script in a process of its own, with pipes for its streams."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        timeout=60,
        check=False,
        **options,
    )


class TestContractOnADescriptor(SinkContract):
    @pytest.fixture
    def sink(self, capfd):
        self.captured = capfd
        return StdoutSink(make_config())

    def written(self, sink):
        return [orjson.loads(line) for line in self.captured.readouterr().out.splitlines()]


class TestContractInMemory(TestContractOnADescriptor):
    @pytest.fixture
    def sink(self, capsys):
        self.captured = capsys
        return StdoutSink(make_config())


@pytest.mark.parametrize("name", ["stdout", "stderr"])
@pytest.mark.parametrize("capture", ["capsys", "capfd"])
def test_writes_to_the_stream_as_it_is_now(request, capture, name):
    sink = StdoutSink(make_config(format_name="text"), stream=name)
    captured = request.getfixturevalue(capture)
    sink.emit([make_event(), make_event(object_type=None)])
    streams = captured.readouterr()._asdict()

    line = "14_11_2022_14_31_12 -- View: test_logging -- Employees object created: user1 last_user"
    assert streams.pop(name[3:]) == f"{line} -- Employees object (72)\n{line} -- None\n"
    assert set(streams.values()) == {""}


def test_what_was_printed_before_comes_before():
    done = run("""
        import sys
        from django_signal_audit.sinks.stdout import StdoutSink
        from tests.factories import make_config, make_event

        print("before")
        StdoutSink(make_config()).emit([make_event(message="the event")])
        print("after")
    """)

    before, event, after = done.stdout.splitlines()
    assert (before, orjson.loads(event)["message"], after) == (b"before", "the event", b"after")
    assert done.stderr == b""


def test_an_event_longer_than_a_pipe_arrives_whole():
    done = run("""
        from django_signal_audit.sinks.stdout import StdoutSink
        from tests.factories import make_config, make_event

        StdoutSink(make_config()).emit([make_event(message="x" * 1_000_000) for _ in range(3)])
    """)

    assert [len(orjson.loads(line)["message"]) for line in done.stdout.splitlines()] == (
        [1_000_000] * 3
    )


def test_waits_where_a_pipe_does_not_block(monkeypatch):
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    chunks = []

    def read():
        while chunk := os.read(reading, 10_000):
            chunks.append(chunk)

    reader = threading.Timer(0.2, read)  # the pipe is full by then
    with os.fdopen(writing, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        reader.start()
        StdoutSink(make_config()).emit([make_event(message="x" * 500_000)])
        monkeypatch.undo()
    reader.join()
    os.close(reading)

    (line,) = b"".join(chunks).splitlines()
    assert len(orjson.loads(line)["message"]) == 500_000


def test_a_pipe_that_nobody_reads_is_the_callers_to_count(monkeypatch):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        with pytest.raises(BrokenPipeError):
            StdoutSink(make_config()).emit([make_event()])
        monkeypatch.undo()


def test_a_closed_stream_is_the_callers_to_count(monkeypatch):
    stream = io.StringIO()
    stream.close()
    monkeypatch.setattr(sys, "stdout", stream)

    with pytest.raises(ValueError, match="closed file"):
        StdoutSink(make_config()).emit([make_event()])


def test_a_process_without_the_stream_is_told_so(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)

    with pytest.raises(OSError, match=r"Sink 'audit': sys\.stderr is None.*file sink"):
        StdoutSink(make_config(), stream="stderr").emit([make_event()])


def test_after_a_block_that_was_cut_the_next_begins_a_line(tmp_path, monkeypatch):
    path = tmp_path / "output"
    original = os.write

    def write_half(descriptor, data):
        if len(data) < 100:
            raise OSError(28, "No space left on device")
        return original(descriptor, bytes(data)[:-50])

    with path.open("w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        sink = StdoutSink(make_config())
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", write_half)
            with pytest.raises(OSError, match="No space left"):
                sink.emit([make_event()])
        sink.emit([make_event(message="whole"), make_event(message="again")])
        monkeypatch.undo()

    torn, *whole = path.read_bytes().splitlines()
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(torn)
    assert [orjson.loads(line)["message"] for line in whole] == ["whole", "again"]


def test_a_stream_whose_descriptor_is_none_is_written_as_text(monkeypatch):
    class Proxy(io.StringIO):
        def fileno(self):
            return None

    stream = Proxy()
    monkeypatch.setattr(sys, "stdout", stream)
    StdoutSink(make_config()).emit([make_event(message="Grüße")])

    assert orjson.loads(stream.getvalue())["message"] == "Grüße"


def test_an_event_dropped_by_its_format_is_left_out(capsys):
    def only_two(event):
        if event.message != "two":
            raise structlog.DropEvent
        return b"two"

    sink = StdoutSink(SinkConfig("audit", only_two))
    sink.emit([make_event(message=text) for text in ("one", "two", "three")])
    sink.emit([make_event(message="four")])

    assert capsys.readouterr().out == "two\n"


def test_forked_children_write_whole_lines():
    done = run("""
        import os
        from django_signal_audit.sinks.stdout import StdoutSink, _process_lock
        from tests.factories import make_config, make_event

        sink = StdoutSink(make_config())
        sink.emit([make_event(message="parent")])
        _process_lock._lock.acquire()  # as another thread would hold it
        children = [os.fork() for _ in range(1)]
        if children == [0]:
            sink.emit([make_event(message="child")])
            os._exit(0)
        os.waitpid(children[0], 0)
    """)

    messages = [orjson.loads(line)["message"] for line in done.stdout.splitlines()]
    assert messages == ["parent", "child"]


def test_another_stream_is_refused():
    with pytest.raises(
        AuditConfigurationError, match=r"'audit': stream is 'stdin'\. Write 'stdout'"
    ):
        StdoutSink(make_config(), stream="stdin")


def test_is_fit_for_production():
    assert not StdoutSink.development_only


# Colours

COLOUR = "\x1b["


@pytest.fixture
def neutral(monkeypatch):
    """An environment that says nothing of colours."""
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def console_sink():
    return StdoutSink(
        SinkConfig("audit", get_formatter("console"), get_terminal_formatter("console"))
    )


def shown_on(stream, monkeypatch):
    monkeypatch.setattr(sys, "stdout", stream)
    console_sink().emit([make_event()])
    return stream.getvalue()


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_on_a_terminal_the_console_format_has_colours(neutral):
    leader, follower = os.openpty()
    with os.fdopen(follower, "w") as stream:
        neutral.setattr(sys, "stdout", stream)
        console_sink().emit([make_event()])
        shown = os.read(leader, 4096).decode()
    os.close(leader)

    assert COLOUR in shown
    assert "test.logging" in shown


def test_elsewhere_it_has_none(neutral):
    assert COLOUR not in shown_on(io.StringIO(), neutral)


@pytest.mark.parametrize(
    ("variables", "stream", "coloured"),
    [
        ({"NO_COLOR": "1"}, Terminal, False),
        ({"NO_COLOR": ""}, Terminal, True),
        ({"FORCE_COLOR": "1"}, io.StringIO, True),
        ({"FORCE_COLOR": ""}, io.StringIO, False),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, Terminal, False),
    ],
)
def test_the_environment_has_the_last_word(neutral, variables, stream, coloured):
    for name, value in variables.items():
        neutral.setenv(name, value)

    assert (COLOUR in shown_on(stream(), neutral)) == coloured


def test_a_stream_that_does_not_tell_has_no_colours(neutral):
    class Silent(io.StringIO):
        def __getattribute__(self, name):
            if name == "isatty":
                raise AttributeError(name)
            return super().__getattribute__(name)

    assert COLOUR not in shown_on(Silent(), neutral)


def test_a_closed_stream_is_an_error_and_no_terminal(neutral):
    stream = io.StringIO()
    stream.close()
    neutral.setattr(sys, "stdout", stream)

    with pytest.raises(ValueError, match="closed"):
        console_sink().emit([make_event()])


def test_a_format_of_one_kind_is_the_same_on_a_terminal(neutral):
    neutral.setattr(sys, "stdout", Terminal())
    StdoutSink(make_config()).emit([make_event()])

    assert COLOUR not in sys.stdout.getvalue()


def test_the_settings_give_a_sink_both_formats():
    entry = {"BACKEND": StdoutSink, "FORMAT": "console", "LEVEL": "error"}
    config = build_route("audit", entry).sink.config

    assert COLOUR in config.terminal_format(make_event()).decode()
    assert COLOUR not in config.format(make_event()).decode()
    assert config.level == 40
    assert build_route("audit", {"BACKEND": StdoutSink}).sink.config.terminal_format is None
