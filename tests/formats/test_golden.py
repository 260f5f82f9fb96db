"""The lines of typical events, one a file's line, in ``golden/``.

A format is what other programs read: a line that changes is a change for them. If it is meant,
write the files anew with ``python -m tests.formats.test_golden``.
"""

from __future__ import annotations

import json
import re

import pytest

from django_signal_audit.formats import get_formatter
from tests.formats.typical import HERE, TYPICAL

FORMATS = ["cloudevents", "ecs", "json", "logfmt", "ocsf"]


def golden(name):
    return HERE / "golden" / f"{name}.txt"


def lines(name):
    return [get_formatter(name)(event) for event in TYPICAL]


@pytest.mark.parametrize("name", FORMATS)
def test_typical_events_have_the_lines_of_the_golden_file(name):
    assert lines(name) == golden(name).read_bytes().splitlines()


def test_the_examples_in_the_documentation_are_lines_of_these_files():
    page = HERE.parents[1] / "docs" / "reference" / "formats.md"
    block = re.compile(
        r"^<!-- golden: (\w+) (\d+) -->\n```json\n(.*?)^```$", re.MULTILINE | re.DOTALL
    )
    shown = block.findall(page.read_text(encoding="utf-8"))

    assert {name for name, _, _ in shown} == {"cloudevents", "ecs", "ocsf"}
    for name, number, text in shown:
        assert json.loads(text) == json.loads(
            golden(name).read_bytes().splitlines()[int(number) - 1]
        )


if __name__ == "__main__":
    import os

    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    django.setup()
    for one in FORMATS:
        golden(one).write_bytes(b"".join(line + b"\n" for line in lines(one)))
