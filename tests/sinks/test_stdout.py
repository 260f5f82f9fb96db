from __future__ import annotations

import errno
import fcntl
import io
import os
import select
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest
import structlog
from django.db import connection, connections

from django_signal_audit.exceptions import AuditConfigurationError
from django_signal_audit.formats import get_formatter
from django_signal_audit.formats.base import get_terminal_formatter
from django_signal_audit.sinks.base import SinkConfig
from django_signal_audit.sinks.entries import build_route
from django_signal_audit.sinks.stdout import StdoutSink, _process_lock
from tests.factories import make_config, make_event
from tests.running import run_script
from tests.sinks import stdout_writers
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


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), "1", None])
def test_a_timeout_that_is_no_time_is_refused(timeout):
    with pytest.raises(AuditConfigurationError, match=r"timeout is .*\. Write a number of seconds"):
        StdoutSink(make_config(), timeout=timeout)


# One stream and many processes


def messages_of(received):
    return [orjson.loads(line)["message"] for line in received.splitlines() if line]


@contextmanager
def writer(output, *arguments):
    """A program of ``stdout_writers`` with this output; its other streams are pipes."""
    with subprocess.Popen(
        [sys.executable, "-m", stdout_writers.__name__, *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        try:
            yield program
        finally:
            program.kill()


def stream_pair(kind):
    """A place to read and one to write, as descriptors."""
    if kind == "socket":
        return tuple(end.detach() for end in socket.socketpair())
    return os.pipe()


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("own", marks=pytest.mark.slow),
        pytest.param("shared", marks=pytest.mark.slow),
        "mixed",
        "socket",
    ],
)
def test_lines_of_many_processes_and_threads_are_never_mixed(kind):
    reading, writing = stream_pair(kind)
    with writer(writing, "share", kind) as program:
        os.close(writing)
        chunks = []
        while chunk := os.read(reading, 30_000):
            chunks.append(chunk)
            if len(chunks) % 4 == 0:
                time.sleep(0.001)  # slower than they write: the pipe is full all the time
        os.close(reading)
        assert program.wait() == 0, program.stderr.read()

    found = [orjson.loads(line) for line in b"".join(chunks).splitlines()]
    names = [f"forked {n}" for n in range(stdout_writers.FORKED)]
    names += [f"spawned {n}" for n in range(stdout_writers.SPAWNED)]
    assert Counter((e["message"], len(e["data"]["filler"])) for e in found) == Counter(
        (f"{name}:{thread}:{number}", size)
        for name in names
        for thread in range(stdout_writers.THREADS)
        for number, size in enumerate(stdout_writers.SIZES)
    )


@pytest.fixture(params=["own", "shared"])
def opening(request, monkeypatch):
    """Whether a pipe can be opened once more, or is another user's."""
    if request.param == "shared":
        monkeypatch.setattr(os, "open", os.open)  # undone when the test ends
        stdout_writers.refuse_to_open_again()
    return request.param


class Pipe:
    """The standard output of this process, until the test ends."""

    def __init__(self, monkeypatch):
        self.reading, self.writing = os.pipe()
        os.set_blocking(self.reading, False)
        self.stream = os.fdopen(self.writing, "w")
        self._patch = monkeypatch

    def use(self):
        self._patch.setattr(sys, "stdout", self.stream)

    def fill(self):
        """Until there is no room for one byte."""
        os.set_blocking(self.writing, False)
        try:
            while True:
                os.write(self.writing, b"." * 4095 + b"\n")
        except BlockingIOError:
            os.set_blocking(self.writing, True)

    def read(self):
        """What there is."""
        chunks = []
        try:
            while chunk := os.read(self.reading, 65536):
                chunks.append(chunk)
        except BlockingIOError:
            pass
        return b"".join(chunks)

    def lines(self):
        return [line for line in self.read().splitlines() if line.strip(b".")]


@pytest.fixture
def pipe():
    with pytest.MonkeyPatch.context() as patch:
        made = Pipe(patch)
        yield made
    made.read()
    made.stream.close()
    os.close(made.reading)


def seconds_of(function, *arguments):
    began = time.monotonic()
    function(*arguments)
    return time.monotonic() - began


def emit_late(sink, match="audit", **values):
    with pytest.raises(TimeoutError, match=match) as caught:
        sink.emit([make_event(**values)])
    assert caught.value.errno == errno.ETIMEDOUT


def test_a_reader_that_has_stopped_is_waited_for_once(pipe, opening):
    pipe.use()
    pipe.fill()
    sink = StdoutSink(make_config(), timeout=0.5)
    expected = r"Sink 'audit': sys\.stdout could not be written within 0\.5 seconds.*file sink"

    assert 0.5 <= seconds_of(emit_late, sink, expected) < 5
    assert sum(seconds_of(emit_late, sink, expected) for _ in range(50)) < 5
    assert os.get_blocking(pipe.writing), "what others share was left as it is"

    assert pipe.lines() == []
    sink.emit([make_event(message="read again")])
    assert messages_of(pipe.read()) == ["read again"]
    pipe.fill()
    assert seconds_of(emit_late, sink) >= 0.5, "it is waited for again"


def test_what_was_printed_does_not_wait_for_ever_either(pipe, opening):
    pipe.use()
    sink = StdoutSink(make_config(), timeout=0.1)
    pipe.fill()
    pipe.stream.write("printed before\n")
    emit_late(sink, message="too late")
    pipe.read()
    sink.emit([make_event(message="in time")])

    printed, event = pipe.lines()
    assert (printed, orjson.loads(event)["message"]) == (b"printed before", "in time")


def test_a_line_that_the_reader_took_half_of_is_ended(pipe, opening):
    pipe.use()
    sink = StdoutSink(make_config(), timeout=0.1)
    emit_late(sink, r"took \d+ of 1000\d{3} bytes", data={"filler": "x" * 1_000_000})
    received = pipe.read()
    sink.close()
    sink.close()
    for message in ("one", "two"):
        sink.emit([make_event(message=message)])
    received += pipe.read()

    torn, *whole = received.splitlines()
    assert torn.startswith(b"{")
    assert torn.endswith(b"xxx")
    assert messages_of(b"\n".join(whole)) == ["one", "two"]
    assert whole[0], "one newline, no empty lines"


def test_a_line_torn_in_another_process_is_ended_too(pipe, opening):
    """The process lives on, and may write again itself."""
    pipe.use()
    with writer(pipe.writing, "tear", opening, 0.1) as program:
        assert program.stderr.readline() == "late\n"
        received = pipe.read()
        sink = StdoutSink(make_config())
        sink.emit([make_event(message="of this process")])
        program.stdin.write("of the other\n")
        program.stdin.flush()
        assert program.stderr.readline() == "written\n"
        sink.emit([make_event(message="of this process again")])
        program.stdin.close()
        assert program.wait() == 0
    received += pipe.read()

    torn, *whole = received.splitlines()
    assert torn.endswith(b"xxx")
    assert messages_of(b"\n".join(whole)) == [
        "of this process",
        "of the other",
        "of this process again",
    ]
    assert whole[-1], "nothing is left to be ended"


def test_a_process_that_is_stopped_while_it_writes_does_not_hold_others(pipe, opening):
    pipe.use()
    sink = StdoutSink(make_config(), timeout=0.5)
    with writer(pipe.writing, "tear", opening, 60) as program:
        select.select([pipe.reading], [], [])
        received = os.read(pipe.reading, 1)  # it writes, for the pipe cannot hold all of its line
        program.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, program.pid, os.WSTOPPED)
        received += pipe.read()

        assert 0.5 <= seconds_of(emit_late, sink, "other processes were writing") < 5
        assert sum(seconds_of(emit_late, sink) for _ in range(50)) < 5

        program.send_signal(signal.SIGCONT)
        while not received.endswith(b"\n"):
            select.select([pipe.reading], [], [])
            received += pipe.read()
        assert program.stderr.readline() == "written\n"
        sink.emit([make_event(message="short")])
    received += pipe.read()

    assert messages_of(received) == ["long", "short"]


def test_threads_wait_for_each_other_no_longer_than_for_a_reader(capfd):
    holding, free = threading.Event(), threading.Event()

    def hold():
        with _process_lock:
            holding.set()
            free.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    holding.wait(60)
    emit_late(StdoutSink(make_config(), timeout=0.05), "other threads were writing")
    free.set()
    thread.join()

    assert capfd.readouterr().out == ""


def test_many_threads_wait_for_a_stopped_reader_as_long_as_one(pipe):
    pipe.use()
    pipe.fill()
    sink = StdoutSink(make_config(), timeout=1)
    late = []

    def emit():
        try:
            sink.emit([make_event()])
        except TimeoutError:
            late.append(threading.get_ident())

    threads = [threading.Thread(target=emit) for _ in range(12)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert time.monotonic() - began < 6
    assert len(late) == 12


def test_a_reader_that_goes_while_it_is_waited_for_is_an_error_at_once(pipe, opening):
    with pytest.MonkeyPatch.context() as patch:
        reading, writing = os.pipe()
        with os.fdopen(writing, "w") as stream:
            patch.setattr(sys, "stdout", stream)
            go = threading.Timer(0.1, os.close, [reading])
            go.start()
            sink = StdoutSink(make_config(), timeout=60)
            with pytest.raises(BrokenPipeError):
                sink.emit([make_event(data={"filler": "x" * 1_000_000})])
            with pytest.raises(BrokenPipeError):
                sink.emit([make_event()])
            go.join()
            sink.close()
            patch.undo()


def test_another_stream_is_waited_for_again_and_has_no_line_to_end(pipe, monkeypatch, tmp_path):
    pipe.use()
    sink = StdoutSink(make_config(), timeout=0.1)
    emit_late(sink, data={"filler": "x" * 1_000_000})
    with (tmp_path / "output").open("w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        sink.emit([make_event(message="elsewhere")])
        monkeypatch.undo()

    assert messages_of((tmp_path / "output").read_bytes()) == ["elsewhere"]
    assert (tmp_path / "output").read_bytes().startswith(b"{")


def test_nothing_stays_open_that_would_keep_a_reader_from_the_end(pipe):
    def open_now():
        return sorted(Path("/proc/self/fd").iterdir())

    before = open_now()
    pipe.use()
    sink = StdoutSink(make_config(), timeout=0.1)
    sink.emit([make_event()])
    pipe.fill()
    emit_late(sink)
    pipe.read()
    emit_late(sink, data={"filler": "x" * 1_000_000})
    sink.close()

    assert open_now() == before


def test_where_there_are_no_such_locks_lines_are_written_all_the_same(pipe, opening, monkeypatch):
    def none(*arguments):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "fcntl", none)
    pipe.use()
    StdoutSink(make_config()).emit([make_event(message="written")])

    assert messages_of(pipe.read()) == ["written"]


def test_room_that_somebody_else_has_taken_is_waited_for(pipe, monkeypatch):
    original, refused = os.write, []

    def taken_once(descriptor, data):
        if not refused:
            refused.append(descriptor)
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        return original(descriptor, data)

    class Printing(io.StringIO):
        flushes = 0

        def fileno(self):
            return pipe.writing

        def flush(self):
            self.flushes += 1
            if self.flushes == 1:
                raise BlockingIOError(errno.EAGAIN, "write could not complete", 0)

    stream = Printing()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        patch.setattr(os, "write", taken_once)
        StdoutSink(make_config()).emit([make_event(message="written")])

    assert messages_of(pipe.read()) == ["written"]
    assert (len(refused), stream.flushes) == (1, 2)


def test_a_child_forked_while_a_line_is_torn_goes_on_for_itself(pipe):
    done = run("""
        import os, sys
        from django_signal_audit.sinks.stdout import StdoutSink
        from tests.factories import make_config, make_event

        reading, writing = os.pipe()
        sys.stdout = os.fdopen(writing, "w")
        sink = StdoutSink(make_config(), timeout=0.1)
        try:
            sink.emit([make_event(data={"filler": "x" * 1_000_000})])
        except TimeoutError:
            received = os.read(reading, 1_000_000)
        child = os.fork()
        if not child:
            before = len(os.listdir("/proc/self/fd"))
            sink.emit([make_event(message="child")])
            sink.emit([make_event(message="child")])
            sink.close()
            os._exit(len(os.listdir("/proc/self/fd")) - before)
        sys.stderr.write(str(os.waitpid(child, 0)[1]))
        sink.emit([make_event(message="parent")])
        sink.emit([make_event(message="parent")])
        received += os.read(reading, 1_000_000)
        sys.stderr.flush()
        os.write(1, received)
    """)

    torn, *whole = done.stdout.splitlines()
    assert (done.stderr, torn[-3:]) == (b"0", b"xxx")
    assert messages_of(b"\n".join(whole)) == ["child"] * 2 + ["parent"] * 2


@pytest.fixture
def shared_settings(tmp_path, transactional_db):
    """The settings of a database that processes share: a file, or the server's."""
    if connection.vendor == "sqlite":
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(tmp_path / "db.sqlite3"),
            "OPTIONS": {"timeout": 30},
        }
    given = connections.settings["default"]
    keys = ("ENGINE", "NAME", "USER", "PASSWORD", "HOST", "PORT")
    return {key: given[key] for key in keys} | {"NAME": connection.settings_dict["NAME"]}


def test_a_stopped_reader_holds_no_row_of_a_file_or_on_a_server(shared_settings):
    assert run_script("blocked_output.py", shared_settings, 60, "yes") == {
        "seen": True,
        "locked": True,
        "records": 1,
        "still_waiting": True,
        "ended": "x",
        "lines": 1,
    }


def test_a_reader_that_never_reads_again_lets_the_program_go_on_on_a_server_too(shared_settings):
    found = run_script("blocked_output.py", shared_settings, 0.5, "no")

    assert (found["seen"], found["records"], found["ended"], found["lines"]) == (True, 1, "x", 0)


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
