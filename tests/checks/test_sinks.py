"""Entries of SINKS, and PROCESSORS."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from django_signal_audit.checks import check_deployment, check_settings, settings_are_sound
from django_signal_audit.sinks import MemorySink, Sink, routing
from tests.checks.helpers import DATABASE, FILE, MEMORY, STDOUT, audit, error, warning

SHIPPED = (
    "Choose one of 'django_signal_audit.sinks.DatabaseSink', "
    "'django_signal_audit.sinks.FileSink', 'django_signal_audit.sinks.LoggerSink', "
    "'django_signal_audit.sinks.MemorySink', 'django_signal_audit.sinks.StdoutSink'."
)


class Demanding(Sink):
    def __init__(self, config, *, api_key, url):
        super().__init__(config)
        raise ValueError(f"cannot log in to {url} with {api_key}")


def raising_factory():
    return 1 / 0


def adds_host(logger, method_name, event_dict):
    return event_dict


def found_for(**entry):
    with audit(SINKS={"a": entry}):
        assert not settings_are_sound()
        return check_settings()


def test_e021_an_entry_that_is_none():
    with audit(SINKS={"a": None, "b": {"BACKEND": MEMORY, "EVENT": [], "FORMATS": "json"}}):
        assert check_settings() == [
            error(
                "E021",
                "SIGNAL_AUDIT['SINKS']['a'] is a NoneType.",
                "Write a dict with a 'BACKEND'.",
            ),
            error(
                "E021", "SIGNAL_AUDIT['SINKS']['b'] has no key 'EVENT'.", "Did you mean 'EVENTS'?"
            ),
            error(
                "E021", "SIGNAL_AUDIT['SINKS']['b'] has no key 'FORMATS'.", "Did you mean 'FORMAT'?"
            ),
        ]


@pytest.mark.parametrize(
    ("backend", "problem", "hint"),
    [
        (
            None,
            " is None.",
            "Write the dotted path of a sink, such as 'django_signal_audit.sinks.FileSink'.",
        ),
        ("x.Y", ": 'x.Y' cannot be imported (No module named 'x').", SHIPPED),
        (
            "FileSnk",
            ": 'FileSnk' cannot be imported (FileSnk doesn't look like a module path).",
            "Did you mean 'django_signal_audit.sinks.FileSink'?",
        ),
        (
            "tests.checks.test_sinks.Demandin",
            (
                ": 'tests.checks.test_sinks.Demandin' cannot be imported (Module "
                '"tests.checks.test_sinks" does not define a "Demandin" attribute/class).'
            ),
            "Did you mean 'tests.checks.test_sinks.Demanding'?",
        ),
        (
            "django_signal_audit.sink.FileSink",
            (
                ": 'django_signal_audit.sink.FileSink' cannot be imported (No module named "
                "'django_signal_audit.sink')."
            ),
            "Did you mean 'django_signal_audit.sinks.FileSink'?",
        ),
        (
            "tests.broken.Sink",
            ": 'tests.broken.Sink' cannot be imported (RuntimeError: not today).",
            SHIPPED,
        ),
        (
            "django.test.TestCase",
            ": 'django.test.TestCase' is no sink.",
            "Derive one from django_signal_audit.sinks.Sink.",
        ),
    ],
)
def test_e022_an_unknown_or_wrong_backend(backend, problem, hint):
    assert found_for(BACKEND=backend) == [
        error("E022", f"SIGNAL_AUDIT['SINKS']['a']['BACKEND']{problem}", hint)
    ]


def test_e023_unknown_and_missing_options():
    with audit(
        SINKS={
            "a": {"BACKEND": FILE, "OPTIONS": {"pth": "x", "fsnc": "never"}},
            "b": {"BACKEND": MEMORY, "OPTIONS": ["capacity"]},
            "c": {"BACKEND": Sink2, "OPTIONS": {"x": 1}},
        }
    ):
        assert check_settings() == [
            error(
                "E023",
                "SIGNAL_AUDIT['SINKS']['a']: FileSink has no option 'pth'.",
                "Did you mean 'path'?",
            ),
            error(
                "E023",
                "SIGNAL_AUDIT['SINKS']['a']: FileSink has no option 'fsnc'.",
                "Did you mean 'fsync'?",
            ),
            error(
                "E023",
                "SIGNAL_AUDIT['SINKS']['a']: FileSink needs the option 'path'.",
                "Write 'OPTIONS': {'path': ...}.",
            ),
            error("E023", "SIGNAL_AUDIT['SINKS']['b']['OPTIONS'] is a list.", "Write a dict."),
            error(
                "E023",
                "SIGNAL_AUDIT['SINKS']['c']: Sink2 has no option 'x'.",
                "It takes no options.",
            ),
        ]


class Sink2(Sink):
    """Takes no options."""


def test_e024_wrong_values_of_options():
    options = {"path": "", "fsync": "always", "fsync_interval": 0, "mode": "640"}
    assert found_for(BACKEND=FILE, OPTIONS=options) == [
        error(
            "E024",
            "Sink 'a': path is ''.",
            "Write the path of a file, such as '/var/log/app/audit.jsonl'.",
        ),
        error("E024", "Sink 'a': fsync is 'always'.", "Write 'never', 'interval' or 'commit'."),
        error("E024", "Sink 'a': fsync_interval is 0.", "Write a number of seconds above 0."),
        error("E024", "Sink 'a': mode is '640'.", "Write a number of permissions such as 0o640."),
    ]


@pytest.mark.parametrize(
    ("backend", "options", "problem", "hint"),
    [
        (
            MEMORY,
            {"capacity": 0},
            "capacity is 0.",
            "Write a positive number, or None to keep every event.",
        ),
        (STDOUT, {"stream": "out"}, "stream is 'out'.", "Write 'stdout' or 'stderr'."),
    ],
)
def test_e024_wrong_values_of_other_sinks(backend, options, problem, hint):
    assert found_for(BACKEND=backend, OPTIONS=options) == [
        error("E024", f"Sink 'a': {problem}", hint)
    ]


def test_e024_a_sink_of_ones_own_that_refuses_its_options_does_not_show_its_secrets():
    options = {"api_key": "k-1234567", "url": "log.example"}
    assert found_for(BACKEND=Demanding, OPTIONS=options) == [
        error(
            "E024",
            "SIGNAL_AUDIT['SINKS']['a']: Demanding cannot be made of 'api_key', 'url' (ValueError: "
            "cannot log in to *** with ***).",
            "Correct the values in its OPTIONS.",
        )
    ]


FORMATS = (
    "Write the dotted path of a function that returns structlog processors, or one of "
    "'cloudevents', 'console', 'ecs', 'json', 'logfmt', 'ocsf', 'text'."
)


@pytest.mark.parametrize(
    ("name", "problem", "hint"),
    [
        (5, " is 5.", "Write the name of a format, such as 'json'."),
        (
            "tests.broken.processors",
            ": The format 'tests.broken.processors' cannot be imported (RuntimeError: not today).",
            FORMATS,
        ),
        ("jsno", ": There is no format 'jsno'.", "Did you mean 'json'?"),
        (
            "tests.checks.test_sinks.raising_factry",
            (
                ": The format 'tests.checks.test_sinks.raising_factry' cannot be imported (Module "
                '"tests.checks.test_sinks" does not define a "raising_factry" attribute/class).'
            ),
            "Did you mean 'tests.checks.test_sinks.raising_factory'?",
        ),
    ],
)
def test_e025_an_unknown_or_wrong_format(name, problem, hint):
    assert found_for(BACKEND=MEMORY, FORMAT=name) == [
        error("E025", f"SIGNAL_AUDIT['SINKS']['a']['FORMAT']{problem}", hint)
    ]


def test_e026_unknown_and_wrong_processors():
    unknown = "tests.checks.test_sinks.add_host"
    entry = {"BACKEND": MEMORY, "PROCESSORS": "tests.checks.test_sinks.adds_host"}
    with audit(PROCESSORS=[unknown], SINKS={"a": entry}):
        assert not settings_are_sound()
        found = check_settings()

    assert found == [
        error(
            "E026",
            f"SIGNAL_AUDIT['PROCESSORS'] names '{unknown}', which cannot be imported (Module "
            '"tests.checks.test_sinks" does not define a "add_host" attribute/class).',
            "Did you mean 'tests.checks.test_sinks.adds_host'?",
        ),
        error(
            "E026",
            "SIGNAL_AUDIT['SINKS']['a']['PROCESSORS'] is 'tests.checks.test_sinks.adds_host'.",
            "Write a list of dotted paths, such as ['tests.checks.test_sinks.adds_host'].",
        ),
    ]


def test_e027_wrong_patterns_and_levels():
    found = found_for(BACKEND=MEMORY, EVENTS="auth.*", MODELS=[5], LEVEL="warn")

    where = "SIGNAL_AUDIT['SINKS']['a']"
    assert found == [
        error("E027", f"{where}['LEVEL'] is 'warn', which is no level.", "Did you mean 'warning'?"),
        error(
            "E027",
            f"{where}['EVENTS'] is 'auth.*'.",
            "Write a list of patterns, such as ['auth.*'].",
        ),
        error(
            "E027", f"{where}['MODELS'] is [5].", "Write a list of patterns, such as ['auth.*']."
        ),
    ]


def test_e028_a_wrong_policy_for_failures():
    assert found_for(BACKEND=DATABASE, ON_ERROR="rais") == [
        error(
            "E028",
            "SIGNAL_AUDIT['SINKS']['a']['ON_ERROR'] is 'rais', which is no policy.",
            "Did you mean 'raise'?",
        )
    ]


def test_e029_raise_on_a_sink_that_writes_after_commit():
    assert found_for(BACKEND=MEMORY, ON_ERROR="raise") == [
        error(
            "E029",
            "SIGNAL_AUDIT['SINKS']['a']['ON_ERROR'] cannot be 'raise': MemorySink writes after "
            "COMMIT, when nothing can be rolled back any more.",
            "Use 'spool' or 'log', or a sink that writes inside the transaction.",
        )
    ]


def test_raise_is_right_on_a_sink_that_writes_inside_the_transaction():
    with audit(SINKS={"a": {"BACKEND": DATABASE, "ON_ERROR": "raise"}}):
        assert check_settings() == []


# Paths of files


def refused(path, number, problem, hint):
    with audit(SINKS={"file": {"BACKEND": FILE, "OPTIONS": {"path": str(path)}}}):
        assert check_settings() == [error(number, f"Sink 'file': {problem}", hint)]


def test_e201_the_directory_is_missing(tmp_path):
    refused(
        tmp_path / "missing" / "audit.jsonl",
        "E201",
        f"The directory {tmp_path / 'missing'} does not exist.",
        "Create it, or correct the path in the sink's OPTIONS.",
    )


def test_e202_the_path_is_a_directory(tmp_path):
    refused(tmp_path, "E202", f"{tmp_path} is a directory.", "Write the path of a file in it.")


def test_e203_the_path_is_under_a_file(tmp_path):
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "audit.jsonl"
    refused(
        path,
        "E203",
        f"{path} cannot be reached: Not a directory.",
        "Correct the path, or the permissions of its directories.",
    )


def test_e203_no_file_can_be_made_there_not_even_by_root():
    refused(
        "/proc/audit.jsonl",
        "E203",
        "No file can be made in /proc by this process: No such file or directory.",
        "Permit its user to write to the directory, or write another path.",
    )


def test_e204_the_path_is_a_symbolic_link(tmp_path):
    path = tmp_path / "link"
    path.symlink_to(tmp_path / "file")
    refused(
        path,
        "E204",
        f"{path} is a symbolic link, which is not followed.",
        "Write the path of the file that it points to.",
    )


def test_e205_the_path_is_no_regular_file():
    refused(
        "/dev/null",
        "E205",
        "/dev/null is not a regular file.",
        "For the output of the process use StdoutSink.",
    )


def test_a_relative_path_is_named_with_the_directory_it_was_resolved_against(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(
        "logs/audit.jsonl",
        "E201",
        f"The directory {tmp_path / 'logs'} does not exist.",
        "Create it, or correct the path in the sink's OPTIONS.",
    )


# Deployment


class Tracing(MemorySink):
    development_only = True


def test_w081_a_sink_for_development_under_deploy():
    with audit(
        SINKS={"a": {"BACKEND": MEMORY}, "b": {"BACKEND": Tracing}, "c": {"BACKEND": STDOUT}},
        STATE_DIR="/",
    ):
        hint = "Use another sink in production, such as DatabaseSink or FileSink."
        assert check_deployment() == [
            warning(
                "W081",
                "SIGNAL_AUDIT['SINKS']['a'] is a MemorySink, which is made for development.",
                hint,
            ),
            warning(
                "W081",
                "SIGNAL_AUDIT['SINKS']['b'] is a Tracing, which is made for development.",
                hint,
            ),
        ]
        assert check_settings() == []


def test_w082_a_format_for_people_under_deploy():
    with audit(
        SINKS={"a": {"BACKEND": STDOUT, "FORMAT": "console"}, "b": {"BACKEND": STDOUT}},
        STATE_DIR="/",
    ):
        assert check_deployment() == [
            warning(
                "W082",
                "SIGNAL_AUDIT['SINKS']['a'] writes the format 'console', which is made for people: "
                "no program reads it back.",
                "Use 'json' or 'logfmt' in production.",
            )
        ]
        assert check_settings() == []


def test_w083_losses_that_only_each_process_counts(tmp_path):
    file = {"BACKEND": FILE, "OPTIONS": {"path": str(tmp_path / "audit.jsonl")}}
    with audit(SINKS={"db": {"BACKEND": DATABASE}, "file": file}):
        assert check_deployment() == [
            warning(
                "W083",
                "Audit sink 'file' may lose events, and each process counts its losses for itself "
                "alone.",
                "Set SIGNAL_AUDIT['STATE_DIR'], a directory of this machine, so that manage.py "
                "audit_status sees what all processes count.",
            )
        ]
    with audit(SINKS={"db": {"BACKEND": DATABASE}}):
        assert check_deployment() == []
    with audit(SINKS={"file": file}, STATE_DIR=tmp_path):
        assert check_deployment() == []


# Spools and STATE_DIR


def test_e029_a_spool_for_a_sink_that_writes_inside_of_the_transaction(tmp_path):
    with audit(SINKS={"a": {"BACKEND": DATABASE, "ON_ERROR": "spool"}}, STATE_DIR=tmp_path):
        assert check_settings() == [
            error(
                "E029",
                "SIGNAL_AUDIT['SINKS']['a']['ON_ERROR'] cannot be 'spool': DatabaseSink writes "
                "inside the transaction, and what waits in a spool has left it.",
                "Use 'raise', which rolls the change back, or 'log'.",
            )
        ]


def test_e036_a_spool_without_a_place():
    with audit(SINKS={"a": {"BACKEND": MEMORY, "ON_ERROR": "spool"}}):
        assert check_settings() == [
            error(
                "E036",
                "SIGNAL_AUDIT['SINKS']['a']['ON_ERROR'] is 'spool', but there is no directory for "
                "the spool.",
                "Write SIGNAL_AUDIT['STATE_DIR'], a directory of this machine that is still there "
                "after a restart, such as BASE_DIR / 'audit-state'.",
            )
        ]


def test_e037_a_state_dir_that_cannot_be_used(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    for path, problem, hint in (
        (tmp_path / "file", f"{tmp_path / 'file'} is no directory.", "Name a directory."),
        (
            tmp_path / "none" / "state",
            f"The directory {tmp_path / 'none'} does not exist.",
            "Create it, or correct the path.",
        ),
        (
            "/proc",
            "No file can be made in /proc by this process: No such file or directory.",
            "Permit its user to write to the directory, or name another one.",
        ),
    ):
        with audit(STATE_DIR=path):
            assert check_settings() == [
                error("E037", f"SIGNAL_AUDIT['STATE_DIR']: {problem}", hint)
            ]

    def unreachable(self, **kwargs):
        raise PermissionError(13, "Permission denied")

    with audit(STATE_DIR="/closed/state"), monkeypatch.context() as patch:
        patch.setattr(Path, "exists", unreachable)
        assert check_settings() == [
            error(
                "E037",
                "SIGNAL_AUDIT['STATE_DIR']: /closed/state cannot be reached: Permission denied.",
                "Correct the path, or its rights.",
            )
        ]
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "a.counters").touch()
    (tmp_path / "foreign" / "another").touch()
    with audit(STATE_DIR=tmp_path / "foreign"), monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, mode: False)
        assert check_settings() == [
            error(
                "E037",
                f"SIGNAL_AUDIT['STATE_DIR']: {tmp_path / 'foreign' / 'a.counters'} cannot be "
                "written by this process.",
                "Let all processes of the project run as one user, or share a group that may "
                "write.",
            )
        ]
    with audit(STATE_DIR=str(tmp_path / "state")):
        assert check_settings() == []
    assert not (tmp_path / "state").exists(), "looking makes nothing"


def test_a_sink_says_what_it_keeps_under_its_policy(tmp_path):
    entries = {
        "a": {"BACKEND": DATABASE},
        "b": {"BACKEND": DATABASE, "ON_ERROR": "log"},
        "c": {"BACKEND": MEMORY},
        "d": {"BACKEND": STDOUT, "ON_ERROR": "spool"},
    }
    with audit(SINKS=entries, STATE_DIR=tmp_path):
        found = {route.alias: route.promise for route in routing.all_routes()}
    assert found == {
        "a": "transactional",
        "b": "at-most-once",
        "c": "at-most-once",
        "d": "at-least-once",
    }
