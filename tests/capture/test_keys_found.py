"""Keys are kept in little memory, and come back as they were found."""

import tempfile
import tracemalloc
import uuid

import pytest

from django_signal_audit.capture.keys_found import found_keys


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 9])
def test_keys_come_back_in_order_and_in_chunks_as_often_as_asked(count):
    with found_keys(3) as keys:
        keys.add(iter(range(count)))
        for _ in range(2):
            chunks = list(keys.chunks())
            assert [key for chunk in chunks for key in chunk] == list(range(count))
            assert all(len(chunk) == 3 for chunk in chunks[:-1])


def test_keys_may_be_added_a_few_at_a_time():
    with found_keys(3) as keys:
        for number in range(10):
            keys.add([number])
        assert [len(chunk) for chunk in keys.chunks()] == [3, 3, 3, 1]


def test_keys_of_any_kind_are_the_same_again():
    kinds = [1, "a", uuid.uuid4(), (1, "b"), 2**70]
    with found_keys(2) as keys:
        keys.add(kinds)
        assert [key for chunk in keys.chunks() for key in chunk] == kinds


def test_the_caller_may_leave_in_the_middle():
    with found_keys(1) as keys:
        keys.add("abc")
        assert next(keys.chunks()) == ["a"]
        assert list(keys.chunks()) == [["a"], ["b"], ["c"]]


def test_many_keys_take_little_memory():
    with found_keys(500) as keys:
        tracemalloc.start()
        try:
            keys.add(str(number) for number in range(200_000))
            total = sum(len(chunk) for chunk in keys.chunks())
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert total == 200_000
    assert peak < 5_000_000


def test_the_file_is_closed_in_the_end(monkeypatch):
    files = []
    make = tempfile.SpooledTemporaryFile

    def remember(**options):
        files.append(make(**options))
        return files[-1]

    monkeypatch.setattr(tempfile, "SpooledTemporaryFile", remember)
    with found_keys(1) as keys:
        keys.add("ab")
    [file] = files
    assert file.closed
