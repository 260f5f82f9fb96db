"""Counting from every place that may count."""

import os
import threading

import pytest

from django_signal_audit.sinks import counters


def test_a_signal_handler_may_count_while_its_thread_counts():
    def work():
        with counters._lock:
            counters.count("file", "written", 2)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(10)

    assert not thread.is_alive()
    assert counters.snapshot() == {"file": {"written": 2}}


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_can_count_whatever_its_parents_threads_did():
    held, forked = threading.Event(), threading.Event()

    def hold():
        with counters._lock:
            held.set()
            forked.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(10)
    pid = os.fork()
    if pid == 0:
        # Without a lock of its own it would wait for ever; another thread finds out.
        counting = threading.Thread(target=counters.count, args=("file", "written", 1), daemon=True)
        counting.start()
        counting.join(10)
        os._exit(1 if counting.is_alive() else 0)
    forked.set()
    thread.join()

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
