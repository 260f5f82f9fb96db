"""The sandbox as a newcomer runs it: its own processes, its own settings, files in ``tmp_path``."""

import datetime as dt
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from urllib.parse import unquote, urlsplit

import jsonschema
import pytest
from django.db import connection

import django_signal_audit

SANDBOX = Path(__file__).resolve().parent.parent / "sandbox"
PACKAGE_PARENT = Path(django_signal_audit.__file__).resolve().parent.parent
PROCESSES = 8
EMPLOYEES_EACH = 50

TIME = r"\d{2}_\d{2}_\d{4}_\d{2}_\d{2}_\d{2}"
SUCCESS_LINE = re.compile(
    TIME + r" -- View: test_logging -- Employees object created: user1 last_user"
    r" -- Employees object \(\d+\)"
)
ERROR_LINE = re.compile(
    TIME + r" -- View: test_logging -- Field 'age' expected a number but got 'age'\. -- None"
)

HIRE = """
import datetime, sys, django
django.setup()
from speedy.models import Employees
for number in range(int(sys.argv[1])):
    Employees.objects.create(
        first_name=f"user{number}", last_name="last_user", address="1 Example Street", age=30,
        date_of_birth=datetime.date(1990, 1, 1),
    )
"""

COUNT = """
import json, django
django.setup()
from django.db.models import Count
from django_signal_audit.models import AuditRecord
from speedy.models import Employees, Shifts
creates = AuditRecord.objects.filter(event="model.create")
print(json.dumps({
    "employees": Employees.objects.count(),
    "employee_creates": creates.filter(object_type="speedy.employees")
        .values("object_id").distinct().count(),
    "shift_creates": creates.filter(object_type="speedy.shifts").count(),
    "shifts": [
        [str(date), taken]
        for date, taken in Shifts.objects.annotate(taken=Count("employees_shift"))
        .order_by("shift_date", "pk").values_list("shift_date", "taken")
    ],
}))
"""


class Sandbox:
    """One sandbox with a database and files of its own."""

    def __init__(self, folder, database_url=None, settings="speedster.settings"):
        self.folder = folder
        inherited = {
            name: value
            for name, value in os.environ.items()
            if name not in {"FORCE_COLOR", "NO_COLOR", "COLUMNS", "LINES", "AUDIT_SINKS"}
        }
        # Everything that a .env file in the sandbox folder could say is said here.
        self.environment = inherited | {
            "ALLOWED_HOSTS": "localhost,127.0.0.1",
            "DATABASE_URL": database_url or f"sqlite:///{folder / 'db.sqlite3'}",
            "DEBUG": "True",
            "DJANGO_SETTINGS_MODULE": settings,
            "LOG_LEVEL": "INFO",
            "PYTHONPATH": os.pathsep.join([str(SANDBOX), str(PACKAGE_PARENT), str(folder)]),
            "PYTHONUTF8": "1",
            "SANDBOX_DATA_DIR": str(folder),
            "SECRET_KEY": "tests only",
            "TIME_ZONE": "Europe/Berlin",
        }

    def python(self, *arguments):
        return subprocess.run(
            [sys.executable, "-W", "error", *arguments],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def manage(self, *arguments):
        return self.python(str(SANDBOX / "manage.py"), *arguments)

    def start(self, *arguments, **streams):
        return subprocess.Popen(
            [sys.executable, *arguments], env=self.environment, cwd=self.folder, **streams
        )

    def lines(self, name):
        return (self.folder / name).read_text(encoding="utf-8").splitlines()

    def events(self, name):
        events = [json.loads(line) for line in self.lines(name)]
        assert len({event["id"] for event in events}) == len(events)
        return {event["id"]: event for event in events}


@contextmanager
def scratch_database():
    """The URL of an empty database on the server, which is dropped afterwards."""
    url = os.environ.get("DATABASE_URL", "")
    if not url or connection.vendor == "sqlite":
        reason = "needs DATABASE_URL to name a PostgreSQL or MariaDB server"
        if os.environ.get("REQUIRE_SERVICES") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    parts = urlsplit(url)
    name = f"sandbox_{uuid.uuid4().hex}"
    with (
        scratch_postgres(parts, name)
        if connection.vendor == "postgresql"
        else scratch_mariadb(parts, name)
    ):
        yield parts._replace(path=f"/{name}").geturl()


@contextmanager
def scratch_postgres(parts, name):
    import psycopg  # noqa: PLC0415 - not installed where only SQLite is tested

    server = parts._replace(scheme="postgresql", path="/postgres", query="").geturl()
    with psycopg.connect(server, autocommit=True) as administrator:
        administrator.execute(f'CREATE DATABASE "{name}"')
        try:
            yield
        finally:
            administrator.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@contextmanager
def scratch_mariadb(parts, name):
    import MySQLdb  # noqa: PLC0415 - not installed where only SQLite is tested

    administrator = MySQLdb.connect(
        host=parts.hostname,
        port=parts.port or 3306,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
    )
    administrator.query(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
    try:
        yield
    finally:
        administrator.query(f"DROP DATABASE {name}")
        administrator.close()


def run_twice(folder, database_url=None):
    sandbox = Sandbox(folder, database_url)
    runs = []
    for _ in range(2):
        run = sandbox.manage("demo")
        assert run.returncode == 0, run.stdout + run.stderr
        runs.append((run, sandbox.events("trail-export.jsonl")))
    return sandbox, runs


def check_two_runs(sandbox, runs):
    (_, first), (_, second) = runs
    in_file = sandbox.events("audit.jsonl")
    assert in_file == first | second
    assert not first.keys() & second.keys()
    schema = json.loads(files(django_signal_audit).joinpath("schema/event.v1.json").read_text())
    for event in in_file.values():
        jsonschema.validate(event, schema)

    log = sandbox.lines("log_event.log")
    assert len(log) == 4
    for success, error in (log[:2], log[2:]):
        assert SUCCESS_LINE.fullmatch(success)
        assert ERROR_LINE.fullmatch(error)


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory):
    return run_twice(tmp_path_factory.mktemp("sandbox"))


@pytest.fixture
def sandbox(tmp_path):
    return Sandbox(tmp_path)


def test_demo_runs_twice_and_its_files_agree(two_runs):
    check_two_runs(*two_runs)


def test_demo_is_quiet_and_fits_a_log(two_runs):
    for run, _ in two_runs[1]:
        assert run.stderr == ""
        assert "\x1b" not in run.stdout
        told = [line for line in run.stdout.splitlines() if not re.match(TIME, line)]
        assert max(map(len, told)) <= 100


def test_first_run_tells_the_whole_story(two_runs):
    events = [
        (event["event"], event["object_type"])
        for event in two_runs[1][0][1].values()
        if not event["event"].startswith(("auth.", "http."))
    ]
    employee, shift = "speedy.employees", "speedy.shifts"
    joins_new_shift = [("model.create", employee), ("model.create", shift), ("model.m2m", shift)]
    joins_a_shift = [("model.create", employee), ("model.m2m", shift)]
    assert events == [
        *joins_new_shift,
        *joins_a_shift,
        *joins_a_shift,
        *joins_new_shift,
        ("model.update", employee),
        ("model.m2m", shift),
        ("model.m2m", shift),
        ("model.update", shift),
        ("model.update", shift),
        ("model.m2m", shift),
        ("model.delete", employee),
        ("model.create", shift),
        ("model.delete", shift),
        *joins_a_shift,
        *joins_a_shift,
        ("event", employee),
        ("event", None),
    ]


def test_shifts_of_the_story_follow_the_rule(two_runs):
    creates = [
        event["changes"]["shift_date"][1]
        for event in two_runs[1][0][1].values()
        if (event["event"], event["object_type"]) == ("model.create", "speedy.shifts")
    ]
    today, tomorrow, yesterday = (dt.date.fromisoformat(date) for date in creates)
    assert tomorrow - today == today - yesterday == dt.timedelta(days=1)


def test_story_holds_old_and_new_values_and_no_address(two_runs):
    sandbox, runs = two_runs
    for run, events in runs:
        updates = [event for event in events.values() if event["event"] == "model.update"]
        assert updates[0]["changes"] == {
            "age": [30, 31],
            "address": ["[redacted]", "[redacted]"],
        }
        bonuses = [event["changes"]["wage_bonus"] for event in updates[1:]]
        assert all(float(new) == float(old) + 5 for old, new in bonuses)
        assert "99" not in {str(e["changes"].get("age", [0, 0])[1]) for e in updates}
        assert "Example Street" not in run.stdout
    for name in ("audit.jsonl", "log_event.log", "trail-export.jsonl"):
        assert "Example Street" not in "\n".join(sandbox.lines(name))


def test_everything_in_the_story_has_an_actor(two_runs):
    for _, events in two_runs[1]:
        labels = {
            event["actor"]["label"]
            for event in events.values()
            if event["event"] == "event" or event["event"].startswith("model.")
        }
        assert labels == {"planner", "payroll"}


def test_demo_fails_when_a_sink_misses_events(tmp_path):
    (tmp_path / "deaf_settings.py").write_text(
        "from speedster.settings import *\n"
        "SIGNAL_AUDIT['SINKS']['file']['EVENTS'] = ['model.create']\n"
    )
    run = Sandbox(tmp_path, settings="deaf_settings").manage("demo")
    assert run.returncode == 1
    assert "missing in audit.jsonl" in run.stderr


def sinks_of_the_example():
    example = (SANDBOX / ".env.example").read_text(encoding="utf-8")
    return re.search(r"^# AUDIT_SINKS=(.+)$", example, flags=re.MULTILINE)[1]


def test_demo_runs_with_the_sinks_that_the_example_names(sandbox):
    sandbox.environment["AUDIT_SINKS"] = sinks_of_the_example()
    run = sandbox.manage("demo")
    assert run.returncode == 0, run.stdout + run.stderr
    assert sandbox.events("audit.jsonl") == sandbox.events("trail-export.jsonl")
    assert len(sandbox.lines("log_event.log")) == 2
    assert not re.search(rf"^{TIME}", run.stdout, flags=re.MULTILINE)


def test_demo_says_which_sink_it_misses(sandbox):
    sandbox.environment["AUDIT_SINKS"] = "database://,file://./audit.jsonl"
    run = sandbox.manage("demo")
    assert run.returncode == 1
    assert "AUDIT_SINKS has no 'log'. Unset AUDIT_SINKS, or add it" in run.stderr


def test_a_wrong_url_is_what_check_says_and_no_traceback(sandbox):
    sandbox.environment["AUDIT_SINKS"] = "database://,fiel://./audit.jsonl"
    check = sandbox.manage("check")
    assert check.returncode == 1
    assert "AUDIT_SINKS, URL 2: no sink has the scheme 'fiel'." in check.stderr
    assert "Traceback" not in check.stderr


def test_project_passes_its_checks_and_has_its_migrations(sandbox):
    assert sandbox.manage("migrate", "-v", "0").returncode == 0
    check = sandbox.manage("check", "--database", "default", "--fail-level", "WARNING")
    assert check.returncode == 0, check.stderr
    migrations = sandbox.manage("makemigrations", "--check", "speedy")
    assert migrations.returncode == 0, migrations.stdout


def test_env_example_names_every_variable():
    settings = (SANDBOX / "speedster" / "settings.py").read_text(encoding="utf-8")
    example = (SANDBOX / ".env.example").read_text(encoding="utf-8")
    read = set(re.findall(r'env(?:\.\w+\(\s*|, )"([A-Z_]+)"', settings))
    assert read == set(re.findall(r"^(?:# )?([A-Z_]+)=", example, flags=re.MULTILINE))


def test_pages_work_in_runserver(sandbox):
    assert sandbox.manage("migrate", "-v", "0").returncode == 0
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    site = f"http://127.0.0.1:{port}"
    output = sandbox.folder / "runserver.txt"
    with output.open("wb") as stream:
        server = sandbox.start(
            str(SANDBOX / "manage.py"),
            "runserver",
            "--noreload",
            f"127.0.0.1:{port}",
            stdout=stream,
            stderr=stream,
        )
        try:
            wait_for(site, server, output)
            assert "test_logging?age=age" in fetch(site, "/")[1]
            signals = json.loads(fetch(site, "/test_signals/")[1])
            assert signals["created"] == "Employees object (1)"
            assert [len(shift["employees"]) for shift in signals["shifts"]] == [1]
            assert signals["joined"] == [signals["shifts"][0]["date"]]
            assert fetch(site, "/test_logging/")[0] == 200
            status, body = fetch(site, "/test_logging/?age=age")
            message = "Field 'age' expected a number but got 'age'."
            assert (status, json.loads(body)) == (400, {"message": message})
            assert fetch(site, "/test_logging/?age=99999999999999999999")[0] == 400
            assert fetch(site, "/admin/")[0] == 200
        finally:
            server.terminate()
            server.wait(30)
    log = sandbox.lines("log_event.log")
    assert SUCCESS_LINE.fullmatch(log[0])
    assert log[0].endswith("Employees object (2)")
    assert ERROR_LINE.fullmatch(log[1])
    assert len(log) == 3
    sent = [e for e in sandbox.events("audit.jsonl").values() if e["event"] == "event"]
    assert {event["context"]["path"] for event in sent} == {"/test_logging/"}


def wait_for(site, server, output, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and server.poll() is None:
        try:
            fetch(site, "/")
        except OSError:
            time.sleep(0.1)
        else:
            return
    pytest.fail(f"runserver did not answer: {output.read_text(encoding='utf-8')}")


def fetch(site, path):
    try:
        with urllib.request.urlopen(site + path, timeout=30) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def create_at_once(sandbox):
    assert sandbox.manage("migrate", "-v", "0").returncode == 0
    processes = [
        sandbox.start(
            "-c", HIRE, str(EMPLOYEES_EACH), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        for _ in range(PROCESSES)
    ]
    errors = [process.communicate(timeout=300)[1].decode() for process in processes]
    assert errors == [""] * PROCESSES
    assert [process.returncode for process in processes] == [0] * PROCESSES

    count = sandbox.python("-c", COUNT)
    assert count.returncode == 0, count.stderr
    found = json.loads(count.stdout)
    employees = PROCESSES * EMPLOYEES_EACH
    assert found["employees"] == employees
    assert found["employee_creates"] == employees
    taken = [number for _, number in found["shifts"]]
    # All full but the last: no place was given twice, and none was left.
    assert taken == [3] * (employees // 3) + [employees % 3]
    assert found["shift_creates"] == len(taken)
    dates = [dt.date.fromisoformat(date) for date, _ in found["shifts"]]
    assert dates == [dates[0] + dt.timedelta(days=number) for number in range(len(dates))]

    in_file = sandbox.events("audit.jsonl").values()
    assert employees == sum(
        (event["event"], event["object_type"]) == ("model.create", "speedy.employees")
        for event in in_file
    )


@pytest.mark.slow
def test_eight_processes_never_overfill_a_shift_on_sqlite(sandbox):
    create_at_once(sandbox)


@pytest.mark.service
def test_eight_processes_never_overfill_a_shift_on_a_server(tmp_path):
    with scratch_database() as url:
        create_at_once(Sandbox(tmp_path, url))


@pytest.mark.service
def test_demo_runs_twice_on_a_server(tmp_path):
    with scratch_database() as url:
        check_two_runs(*run_twice(tmp_path, url))
