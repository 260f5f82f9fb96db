"""Which exports there are, and what one must have."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import pytest

from django_signal_audit import exports
from django_signal_audit.exports import BaseExporter, exporters, option
from django_signal_audit.exports.base import options_of
from tests.factories import make_event


def test_each_public_module_is_an_export():
    assert list(exporters()) == ["csv", "jsonl"]


def test_adding_a_file_adds_an_export(tmp_path, monkeypatch):
    (tmp_path / "yaml.py").write_text(
        "from django_signal_audit.exports import BaseExporter\n"
        "class Exporter(BaseExporter):\n"
        "    title = 'YAML'\n"
        "    suffixes = ('.yaml',)\n"
        "    def rows(self, event):\n"
        "        return f'- {event.id}\\n'.encode()\n"
    )
    monkeypatch.setattr(exports, "__path__", [*exports.__path__, str(tmp_path)])
    event = make_event()
    try:
        assert list(exporters()) == ["csv", "jsonl", "yaml"]
        assert exporters()["yaml"]().rows(event) == f"- {event.id}\n".encode()
    finally:
        sys.modules.pop("django_signal_audit.exports.yaml", None)
        vars(exports).pop("yaml", None)


@dataclass
class Small(BaseExporter):
    title = "Small"
    suffixes = (".small",)
    loud: bool = option("in capitals")

    def rows(self, event):
        return b"A\n" if self.loud else b"a\n"


def test_an_exporter_needs_no_more_than_rows():
    exporter = Small()

    assert (exporter.head(), exporter.rows(make_event()), exporter.warnings()) == (b"", b"a\n", [])


def test_an_option_is_off_unless_asked_for():
    assert options_of(Small) == {"loud": "in capitals"}
    assert Small(loud=True).rows(make_event()) == b"A\n"


def test_without_rows_it_is_no_exporter():
    class Nothing(BaseExporter):
        pass

    with pytest.raises(TypeError, match="rows"):
        Nothing()


@pytest.mark.parametrize("name", exporters())
def test_an_export_says_what_it_is_called_and_how_its_files_end(name):
    exporter = exporters()[name]

    assert exporter.title
    assert exporter.suffixes
    assert all(suffix.startswith(".") and suffix.islower() for suffix in exporter.suffixes)


def test_no_two_exports_claim_the_same_files():
    suffixes = [suffix for one in exporters().values() for suffix in one.suffixes]

    assert len(suffixes) == len(set(suffixes))
