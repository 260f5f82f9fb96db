"""The judgement on the runs of other applications' tests: nothing that is wrong passes."""

from dataclasses import replace

import pytest

from tests.applications import page
from tests.applications.judging import judge
from tests.applications.suites import PLAIN, Application, Difference, Run, read_list

COUNTS = Difference("It counts queries.", "queries executed", ("t.py::test_counts[*]",))
OLD = Difference("Its migrations are old.", "no migrations", ("t.py::test_old",))
APPLICATION = Application(
    distribution="shop",
    version="1.0",
    sha256="",
    settings="shop.settings",
    runs=("record", "raise"),
    events=frozenset({"model.create"}),
    differs=(COUNTS,),
    fails=(OLD,),
    blind=frozenset({"update shop_order"}),
)
SURROUNDINGS = {"Python": "3.13", "Django": "6.1", "SQLite": ""}
RAW = {"t.py::test_moves": {"update shop_order": 2}}
PASSING = {"t.py::test_moves": "passed", "t.py::test_counts[a]": "passed"}
WITHOUT = Run(
    {**PASSING, "t.py::test_old": "failed"},
    {"t.py::test_old": "no migrations"},
    surroundings=SURROUNDINGS,
)
RECORDED = Run(
    {**WITHOUT.tests, "t.py::test_counts[a]": "failed"},
    {**WITHOUT.messages, "t.py::test_counts[a]": "4 != 1 : 4 queries executed"},
    {"model.create": 3, "model.blind_write": 2},
    {"written": 5},
    RAW,
    SURROUNDINGS,
)
REFUSED = replace(
    RECORDED,
    tests={**RECORDED.tests, "t.py::test_moves": "failed"},
    messages={**RECORDED.messages, "t.py::test_moves": "...AuditBlindWriteError: ..."},
)
RUNS = {PLAIN: WITHOUT, "record": RECORDED, "raise": REFUSED}


def complaints(**runs):
    return list(judge(APPLICATION, {**RUNS, **runs}))


def changed(run, name, **values):
    return replace(run, **{name: {**getattr(run, name), **values}})


def outcome(run, test, **values):
    return replace(
        run,
        tests={**run.tests, test: values["tests"]},
        messages={**run.messages, test: values.get("messages", "")},
    )


def test_runs_whose_differences_are_explained_are_good():
    assert complaints() == []


def test_a_difference_that_nobody_explains_is_named_with_its_message():
    run = outcome(RECORDED, "t.py::test_moves", tests="failed", messages="boom")
    assert complaints(record=run, **{"raise": REFUSED}) == [
        "BLIND_WRITES='record': t.py::test_moves is passed without audit, and now failed: boom"
    ]


def test_an_explained_test_that_fails_for_another_reason_is_named():
    run = outcome(RECORDED, "t.py::test_counts[a]", tests="failed", messages="boom")
    assert any("now failed: boom" in said for said in complaints(record=run))


def test_a_test_that_is_skipped_when_audited_is_named():
    run = outcome(RECORDED, "t.py::test_counts[a]", tests="skipped", messages="queries executed")
    assert any("now skipped" in said for said in complaints(record=run))


def test_an_explained_difference_that_no_longer_shows_is_named():
    run = outcome(RECORDED, "t.py::test_counts[a]", tests="passed")
    assert any("makes no difference any more" in said for said in complaints(record=run))


def test_a_test_that_was_run_once_only_is_named():
    run = replace(RECORDED, tests={**RECORDED.tests, "t.py::test_new": "passed"})
    assert any("t.py::test_new are in one run only" in said for said in complaints(record=run))


@pytest.mark.parametrize("tests", [{}, {"t.py::test_old": "skipped"}])
def test_a_run_without_a_passed_test_is_refused(tests):
    assert "without audit: no test has passed." in complaints(
        **{PLAIN: replace(WITHOUT, tests=tests)}
    )


def test_a_failure_without_audit_must_be_known():
    run = outcome(WITHOUT, "t.py::test_moves", tests="failed", messages="boom")
    assert "without audit: t.py::test_moves fails: boom" in complaints(**{PLAIN: run})


def test_a_run_that_audits_nothing_is_refused():
    silent = replace(RECORDED, events={}, sinks={})
    assert "BLIND_WRITES='record': no model.create was recorded." in complaints(record=silent)


@pytest.mark.parametrize("sinks", [{"written": 4}, {"written": 5, "lost": 1}, {}])
def test_each_event_must_have_been_written(sinks):
    assert any(
        "the sink counts" in said for said in complaints(record=replace(RECORDED, sinks=sinks))
    )


def test_strict_mode_names_what_the_list_names_and_nothing_else():
    other = {"t.py::test_moves": {"delete from_elsewhere": 1}}
    said = complaints(record=replace(RECORDED, blind=other))
    assert [line.partition(": ")[2] for line in said] == [
        "delete from_elsewhere was written outside of capture, which the list does not name.",
        "the list names update shop_order, and strict mode does not.",
    ]


def test_a_raw_statement_that_was_not_refused_is_named():
    assert any("was not refused" in said for said in complaints(**{"raise": RECORDED}))


def test_a_refusal_must_be_ours():
    run = outcome(REFUSED, "t.py::test_moves", tests="failed", messages="boom")
    assert complaints(**{"raise": run}) == [
        "BLIND_WRITES='raise': t.py::test_moves was not refused but fails otherwise: boom"
    ]


def test_a_test_without_raw_statements_must_not_fail_by_refusal():
    run = outcome(REFUSED, "t.py::test_more", tests="failed", messages="boom")
    assert complaints(**{"raise": run}) == ["BLIND_WRITES='raise': t.py::test_more fails: boom"]


def test_refusing_nothing_proves_nothing():
    quiet = replace(RECORDED, blind={})
    assert any("nothing to refuse" in said for said in complaints(record=quiet, **{"raise": quiet}))


@pytest.fixture
def written(tmp_path):
    """A page, and the blocks that were written into it."""
    blocks = page.make_blocks([(APPLICATION, RUNS)])
    path = tmp_path / "page.md"
    path.write_text("\n".join(f"<!-- {name} -->\n<!-- /{name} -->" for name in blocks))
    page.write(blocks, path)
    return path


def test_the_page_has_a_row_for_each_run_and_each_statement(written):
    text = written.read_text()
    assert "Python 3.13, Django 6.1, SQLite\n" in text
    assert "| shop 1.0 | as it is | 3 | 2 | 0 | 1 |  |" in text
    assert "| shop 1.0 | audited, strict mode `record` | 3 | 1 | 0 | 2 | 1 |" in text
    assert "| shop 1.0 | `update shop_order` | 2 |" in text
    assert "It counts queries." in text and "- `t.py::test_counts[*]`" in text


def test_a_page_that_was_just_written_is_not_stale(written):
    assert page.stale(page.make_blocks([(APPLICATION, RUNS)]), written) == []


def test_other_outcomes_make_the_page_stale(written):
    runs = {**RUNS, "record": WITHOUT, "raise": WITHOUT}
    said = page.stale(page.make_blocks([(APPLICATION, runs)]), written)
    assert [line.split("'")[1] for line in said] == ["outcomes", "statements"]


def test_another_number_of_events_does_not(written):
    more = changed(RECORDED, "events", **{"model.create": 9})
    more = replace(more, blind={"t.py::test_moves": {"update shop_order": 7}})
    assert page.stale(page.make_blocks([(APPLICATION, {**RUNS, "record": more})]), written) == []


def test_another_django_is_not_compared_with_the_page(written):
    runs = {
        mode: replace(run, surroundings={**SURROUNDINGS, "Django": "5.2"}, tests=PASSING)
        for mode, run in RUNS.items()
    }
    assert page.stale(page.make_blocks([(APPLICATION, runs)]), written) == []


def test_the_list_names_exact_versions():
    for application in read_list():
        assert application.version.replace(".", "").isdigit()
        assert len(application.sha256) == 64
