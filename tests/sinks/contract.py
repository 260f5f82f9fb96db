"""What every sink must do. A sink's tests derive from ``SinkContract``.

A subclass gives the fixture ``sink`` and the method ``written``.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.factories import make_event

if TYPE_CHECKING:
    from django_signal_audit.sinks.base import Sink

AWKWARD_TEXTS = (
    "\U0001f469\u200d\U0001f680 and \U0001f980, Grüße, \u0448\u043a\u043e\u043b\u0430",
    "NUL as made safe: \\u0000",
    "two\nlines\r\nand a \x1b[31mcolour\x1b[0m",
    "\u202eesrever\u2028separated\u2029 and \x85 next line",
    "-- \" ' \\ {} % --",
    "",
)


class SinkContract:
    """Tests that hold for each sink."""

    @pytest.fixture
    def sink(self) -> Sink:
        raise NotImplementedError("give the sink that is tested")

    def written(self, sink: Sink) -> list[dict[str, Any]]:
        """The events in the sink, in order, in their published shape."""
        raise NotImplementedError("read back what the sink wrote")

    def test_keeps_the_order_of_events(self, sink):
        events = [make_event(message=str(number)) for number in range(20)]
        sink.emit(events[:1])
        sink.emit(events[1:15])
        sink.emit(tuple(events[15:]))
        sink.flush()

        assert self.written(sink) == [event.to_dict() for event in events]

    def test_emit_after_close_opens_again(self, sink):
        events = [make_event(), make_event(), make_event()]
        sink.emit(events[:1])
        sink.close()
        sink.close()
        sink.emit(events[1:2])
        sink.flush()
        sink.close()
        sink.emit(events[2:])
        sink.flush()

        assert self.written(sink) == [event.to_dict() for event in events]

    def test_flush_and_close_before_any_event(self, sink):
        sink.flush()
        sink.close()
        sink.flush()

        assert self.written(sink) == []

    def test_any_text_is_one_event(self, sink):
        events = [
            make_event(message=text, object_repr=text, data={"text": text, text: 1})
            for text in AWKWARD_TEXTS
        ]
        sink.emit(events)
        sink.flush()

        assert self.written(sink) == [event.to_dict() for event in events]

    def test_threads_do_not_mix_their_events(self, sink):
        threads, emits, size = 6, 15, 3
        filler = "x" * 3000
        start = threading.Barrier(threads)
        failures: list[BaseException] = []

        def write(name: int) -> None:
            try:
                start.wait()
                for number in range(emits):
                    sink.emit(
                        [
                            make_event(message=f"{name}:{number}:{part}", data={"filler": filler})
                            for part in range(size)
                        ]
                    )
            except BaseException as error:  # noqa: BLE001 - shown by the assertion below
                failures.append(error)

        workers = [threading.Thread(target=write, args=(name,)) for name in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        sink.flush()

        assert failures == []
        messages = [event["message"] for event in self.written(sink)]
        blocks = [messages[at : at + size] for at in range(0, len(messages), size)]
        assert len(blocks) == threads * emits
        assert all(
            block == [f"{block[0].rpartition(':')[0]}:{part}" for part in range(size)]
            for block in blocks
        ), "the events of one emit stay together"
        for name in range(threads):
            own = [block[0] for block in blocks if block[0].startswith(f"{name}:")]
            assert own == [f"{name}:{number}:0" for number in range(emits)]

    def test_check_finds_nothing_wrong(self, sink):
        assert sink.check() == []
