"""Writes of very many rows: capture keeps neither their keys nor their images in memory."""

import pytest

from tests.running import run_script

FEW = 5_000


def peak(name, count, folder, audit):
    folder.mkdir()
    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(folder / "db.sqlite3")}
    found = run_script("growth.py", database, name, count, audit)
    assert found["written"] == count
    assert found["recorded"] == (count if audit == "audit" else 0)
    return found["peak"]


@pytest.mark.slow
@pytest.mark.once
@pytest.mark.parametrize(
    ("name", "many", "bound"),
    [
        ("update", 60_000, 2_000_000),
        ("delete", 60_000, 2_000_000),
        ("bulk_create", 60_000, 2_000_000),
        ("conflicts", 10_000, 1_000_000),
    ],
)
def test_what_capture_needs_does_not_grow_with_the_number_of_rows(name, many, bound, tmp_path):
    needed = {
        count: peak(name, count, tmp_path / f"{count}", "audit")
        - peak(name, count, tmp_path / f"plain-{count}", "plain")
        for count in (FEW, many)
    }
    assert needed[many] - needed[FEW] < bound
