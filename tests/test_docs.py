"""The documentation tells the truth: its examples run, its reference is complete, its links hold.

A comment on the line before a fenced block says what the block is; others are only read:

    <!-- run -->          Python, run in order in one namespace for each document
    <!-- settings -->     Python that sets SIGNAL_AUDIT; in force for the blocks that follow
    <!-- file: PATH -->   the whole of a file in the tutorial's project
    <!-- append: PATH --> lines at the end of a file of that project
    <!-- bash -->         commands of that project
    <!-- shell -->        Python for its ``manage.py shell``
    <!-- output -->       exactly what the block before printed

In the examples of the first two kinds the application ``library`` is ``tests.testapp``, and the
database ``audit`` is ``other``.
"""

import contextlib
import dataclasses
import inspect
import os
import pkgutil
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import BaseCommand, load_command_class
from django.test import override_settings

import django_signal_audit
from django_signal_audit import checks, conf, event, exceptions, registry, sinks, testing, values
from django_signal_audit.capture import signals as capture_signals
from django_signal_audit.formats import available_formats
from django_signal_audit.management import commands
from django_signal_audit.models import AuditRecordQuerySet
from django_signal_audit.signals import _OWN, DEFAULT_EVENT, AuditSignal
from django_signal_audit.sinks import routing

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "docs" / "reference"
TUTORIAL = ROOT / "docs" / "tutorial" / "first-trail.md"
PAGES = sorted((ROOT / "docs").rglob("*.md")) + [
    ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")
]

_BLOCK = re.compile(
    r"^<!-- (?P<kind>run|settings|file|append|bash|shell|output)(?:: (?P<path>[^ ]+))? -->\n"
    r"```[a-z]*\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def name_of(page):
    return str(page.relative_to(ROOT))


def blocks_of(page, *kinds):
    found = _BLOCK.finditer(page.read_text(encoding="utf-8"))
    return [(one["kind"], one["path"], one["text"]) for one in found if one["kind"] in kinds]


RUNNABLE = [page for page in PAGES if blocks_of(page, "run", "settings")]


@pytest.fixture
def own_registry(monkeypatch):
    """What examples register is forgotten again."""
    for name in ("_by_label", "_by_abstract_class", "_unregistered"):
        monkeypatch.setattr(registry, name, getattr(registry, name).copy())
    registry._resolved.clear()
    yield
    registry._resolved.clear()


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
@pytest.mark.parametrize("page", RUNNABLE, ids=name_of)
def test_examples_run(page, own_registry, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "docs_example", "BASE_DIR": tmp_path}
    with contextlib.ExitStack() as stack:
        for kind, _, text in blocks_of(page, "run", "settings"):
            code = text.replace("library.models", "tests.testapp.models")
            code = code.replace('"library.', '"testapp.').replace("'library.", "'testapp.")
            code = re.sub(r'("database": |using\()"audit"', r'\1"other"', code)
            exec(compile(code, f"{name_of(page)} ({kind})", "exec"), namespace)
            if kind == "settings":
                said = override_settings(SIGNAL_AUDIT=namespace["SIGNAL_AUDIT"])
                stack.enter_context(said)
                assert checks.check_settings() + checks.check_models() == []


def run_in_project(project, command):
    environment = {k: v for k, v in os.environ.items() if k != "DJANGO_SETTINGS_MODULE"}
    environment |= {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_tutorial_ends_where_it_says(tmp_path):
    programs = {"python": [sys.executable], "django-admin": [sys.executable, "-m", "django"]}
    printed = None
    outputs = 0
    for kind, path, text in blocks_of(TUTORIAL, "file", "append", "bash", "shell", "output"):
        if kind == "file":
            (tmp_path / path).write_text(text, encoding="utf-8")
        elif kind == "append":
            with (tmp_path / path).open("a", encoding="utf-8") as file:
                file.write(text)
        elif kind == "bash":
            for line in text.splitlines():
                program, *arguments = shlex.split(line.removeprefix("$ "))
                printed = run_in_project(tmp_path, programs[program] + arguments)
        elif kind == "shell":
            shell = [sys.executable, "manage.py", "shell", "--verbosity=0", "--command"]
            printed = run_in_project(tmp_path, [*shell, text])
        else:
            assert printed == text
            outputs += 1
    assert outputs


def options_of(sink):
    return [name for name in inspect.signature(sink).parameters if name != "config"]


def public_methods(cls):
    return [name for name in cls.__dict__ if not name.startswith("_")]


def check_ids():
    """Every id that the sources of the package spell."""
    found = set()
    for source in Path(django_signal_audit.__file__).parent.rglob("*.py"):
        text = source.read_text(encoding="utf-8")
        found.update(re.findall(r'"(?:django_signal_audit\.)?([EW]\d{3})"', text))
    return sorted(f"django_signal_audit.{number}" for number in found)


def commands_and_options():
    own = pkgutil.iter_modules(commands.__path__)
    found = [module.name for module in own if not module.name.startswith("_")]
    common = set(BaseCommand().create_parser("manage.py", "any")._option_string_actions)
    for name in tuple(found):
        parser = load_command_class("django_signal_audit", name).create_parser("manage.py", name)
        found += [one for one in parser._option_string_actions if one not in common]
    return found


SHIPPED_SINKS = [getattr(sinks, name) for name in sinks.__all__ if name.endswith("Sink")]

SHOULD_LIST = {
    "settings.md": [
        *conf.KEYS,
        *routing.KEYS,
        *routing.ON_ERROR,
        *routing.LEVELS,
        *registry.OPTIONS,
        *registry.OPERATIONS,
        *capture_signals.SIGNAL_KEYS,
    ],
    "events.md": [
        *event.EVENT_FIELDS,
        *[field.name for field in dataclasses.fields(event.Actor)],
        *[outcome.value for outcome in event.Outcome],
        *[f"model.{operation}" for operation in registry.OPERATIONS],
        *[f"signal.{name}" for name in capture_signals.BUILT_IN],
        DEFAULT_EVENT,
    ],
    "sinks.md": [
        *sinks.__all__,
        *[option for sink in SHIPPED_SINKS for option in options_of(sink)],
        *public_methods(sinks.Sink),
        *public_methods(sinks.TransactionalSink),
    ],
    "formats.md": available_formats(),
    "checks.md": check_ids(),
    "commands.md": commands_and_options(),
    "api.md": [
        *django_signal_audit.__all__,
        *[
            name
            for name, one in vars(exceptions).items()
            if name.endswith("Error") and one.__module__ == exceptions.__name__
        ],
        *[
            name
            for name, one in vars(testing).items()
            if not name.startswith("_") and getattr(one, "__module__", "") == testing.__name__
        ],
        *public_methods(testing.CapturedEvents),
        *public_methods(AuditSignal),
        *[name for name in public_methods(AuditRecordQuerySet) if name not in dir(object)],
        *_OWN,
    ],
}


@pytest.mark.parametrize("page", SHOULD_LIST)
def test_the_reference_lists_everything(page):
    text = (REFERENCE / page).read_text(encoding="utf-8")
    missing = sorted(
        name for name in set(SHOULD_LIST[page]) if not re.search(rf"`{re.escape(name)}[`( ]", text)
    )
    assert missing == []


def test_the_reference_lists_every_value_marker():
    markers = set(re.findall(r'"(\$\w+)"', values.__doc__))
    assert {"$text", "$cut", "$bytes"} <= markers
    text = (REFERENCE / "events.md").read_text(encoding="utf-8")
    assert {marker for marker in markers if f'"{marker}"' not in text} == set()


def test_the_reference_knows_no_check_that_is_gone():
    text = (REFERENCE / "checks.md").read_text(encoding="utf-8")
    named = set(re.findall(r"django_signal_audit\.[EW]\d{3}", text))
    assert named == set(check_ids())


def test_the_reference_states_the_real_defaults():
    text = (REFERENCE / "settings.md").read_text(encoding="utf-8")
    for field in dataclasses.fields(conf.Config):
        if type(field.default) in {int, bool}:
            row = rf"^\| `{field.name}` \|[^|]*\| `{field.default}` \|"
            assert re.search(row, text, re.MULTILINE), field.name


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    text = _FENCED.sub("", page.read_text(encoding="utf-8"))
    broken = []
    for link in _LINK.findall(text):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.is_file() or (anchor and anchor not in anchors_of(target)):
            broken.append(link)
    assert broken == []


def anchors_of(page):
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one).strip().lower().replace(" ", "-") for one in headings}


def test_every_page_can_be_reached_from_the_index():
    seen = set()
    waiting = [ROOT / "docs" / "index.md"]
    while waiting:
        page = waiting.pop()
        if page in seen:
            continue
        seen.add(page)
        for link in _LINK.findall(page.read_text(encoding="utf-8")):
            target = (page.parent / link.partition("#")[0]).resolve()
            if target.suffix == ".md" and target.is_file():
                waiting.append(target)
    assert set((ROOT / "docs").rglob("*.md")) <= seen


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_page_names_a_host_or_a_place_on_a_machine(page):
    text = page.read_text(encoding="utf-8")
    hosts = re.findall(r"\b(?:https?|ftp|git|ssh)://(?!localhost\b|127\.0\.0\.1\b)[^\s)>`]+", text)
    servers = re.findall(r"://[^\s/@]+@(?!localhost\b)[^\s)>`]+", text)
    paths = re.findall(r"(?<![\w./])/(?:work|tmp|home|root|Users|private|mnt)\b[^\s`]*", text)
    here = [
        place
        for place in (str(ROOT), sys.prefix, socket.gethostname())
        if len(place) > 4 and place in text
    ]
    assert hosts + servers + paths + here == []
