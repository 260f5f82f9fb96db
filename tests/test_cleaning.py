from __future__ import annotations

import orjson
import pytest

from django_signal_audit.cleaning import clean_mapping, clean_text, clean_value


@pytest.mark.parametrize("size", [9_990, 10_000, 10_001, 30_000])
def test_no_half_of_a_secret_stays_where_a_text_is_cut(size):
    text = clean_text("x" * size + "hunter22-hunter22" + "y" * 50_000, {"hunter22-hunter22"})

    assert len(text) <= 10_000
    assert "hunt" not in text


def test_a_value_is_safe_and_gives_its_secrets():
    secrets = set()
    found = clean_value({"password": "hunter22", "a": b"x", "p": ("token", "t-1")}, secrets)

    assert (found["password"], found["p"]) == ("[redacted]", ["token", "[redacted]"])
    assert secrets == {"hunter22", "t-1"}
    orjson.dumps(found)


def test_a_secret_leaves_texts_that_come_before_its_name():
    secrets = set()

    assert clean_mapping({"note": "it is hunter22", "password": "hunter22"}, secrets, "data") == {
        "note": "it is [redacted]",
        "password": "[redacted]",
    }
    assert secrets == {"hunter22"}


def test_values_that_are_too_long_together_are_cut_alone():
    found = clean_mapping({"short": 1, "long": list(range(9_000)), "x" * 300: "y"}, set(), "data")

    assert found["short"] == 1
    assert "$cut" in found["long"]
    assert all(len(key) <= 255 for key in found)


def test_names_that_are_too_many_are_cut_as_a_whole():
    found = clean_mapping({f"key {n}": "x" * 200 for n in range(101)}, set(), "data")

    assert list(found) == ["data"]
    assert "$cut" in found["data"]


def test_nothing_stays_nothing():
    assert clean_mapping({}, set(), "data") == {}
