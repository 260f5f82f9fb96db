from __future__ import annotations

import os
import threading
from datetime import UTC, datetime, timedelta, timezone

import pytest
import time_machine

from django_signal_audit import ids
from django_signal_audit.ids import lowest_uuid7, uuid7

MOMENT = datetime(2024, 2, 29, 12, 0, 0, 123456, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def test_it_is_a_uuid_of_version_7():
    made = uuid7(MOMENT)

    assert made.version == 7
    assert made.variant == "specified in RFC 4122"


def test_it_carries_the_milliseconds_of_the_timestamp():
    assert uuid7(MOMENT).int >> 80 == int(MOMENT.timestamp() * 1000)


def test_it_is_of_the_same_moment_in_any_zone():
    zone = timezone(timedelta(hours=9))

    assert uuid7(MOMENT).int >> 64 == uuid7(MOMENT.astimezone(zone)).int >> 64


def test_a_naive_timestamp_is_refused():
    with pytest.raises(TypeError, match="naive"):
        uuid7(MOMENT.replace(tzinfo=None))


def test_ids_of_neighbouring_microseconds_sort_by_time():
    moments = [MOMENT + number * MICROSECOND for number in range(3000)]
    made = [uuid7(moment) for moment in reversed(moments)]

    assert sorted(made) == list(reversed(made))


def test_ids_grow_while_the_clock_is_frozen():
    with time_machine.travel(MOMENT, tick=False):
        made = [uuid7(datetime.now(tz=UTC)) for _ in range(5000)]

    assert made == sorted(set(made))


def test_after_the_clock_stepped_back_ids_sort_where_their_timestamps_say():
    before = uuid7(MOMENT)
    with time_machine.travel(MOMENT - timedelta(hours=1), tick=False):
        after = [uuid7(datetime.now(tz=UTC)) for _ in range(100)]

    assert after == sorted(set(after))
    assert max(after) < before
    assert lowest_uuid7(MOMENT - timedelta(hours=1)) <= min(after)


def test_the_lowest_id_of_a_moment_bounds_its_ids_exactly():
    made = [uuid7(MOMENT) for _ in range(100)]

    assert lowest_uuid7(MOMENT) <= min(made)
    assert max(made) < lowest_uuid7(MOMENT + MICROSECOND)
    assert uuid7(MOMENT - MICROSECOND) < lowest_uuid7(MOMENT)


@pytest.mark.parametrize(
    "moment",
    [datetime.min.replace(tzinfo=UTC), datetime(1969, 12, 31, tzinfo=UTC)],
)
def test_a_filter_may_begin_before_the_epoch(moment):
    assert lowest_uuid7(moment) == lowest_uuid7(datetime(1970, 1, 1, tzinfo=UTC))


def test_a_filter_may_end_at_the_end_of_time():
    assert lowest_uuid7(datetime.max.replace(tzinfo=UTC)) > uuid7(MOMENT)


def test_threads_never_share_an_id():
    made = []

    def work():
        made.extend([uuid7(MOMENT) for _ in range(2000)])

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(made)) == 12_000


def test_a_signal_handler_may_make_one_while_its_thread_makes_one():
    made = []

    def work():
        with ids._generator._lock:
            made.append(uuid7(MOMENT))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(10)

    assert len(made) == 1


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_never_repeats_its_parents_ids():
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writing, b"".join(uuid7(MOMENT).bytes for _ in range(200)))
        os._exit(0)
    os.waitpid(pid, 0)
    found = os.read(reading, 200 * 16)
    os.close(reading)
    os.close(writing)
    child = {found[at : at + 16] for at in range(0, len(found), 16)}
    parent = {uuid7(MOMENT).bytes for _ in range(200)}

    assert len(child) == 200
    assert not child & parent
    # Not only the random bits differ: the counters went apart.
    counters = [
        {int.from_bytes(made) >> 32 & (2**30 - 1) for made in made} for made in (child, parent)
    ]
    assert not counters[0] & counters[1]
