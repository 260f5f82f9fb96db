"""Settings of the test suite: SQLite unless ``DATABASE_URL`` names another database."""

from __future__ import annotations

import os
from pathlib import Path

import environ

BASE_DIR = Path(__file__).resolve().parent

SECRET_KEY = "tests only"
USE_TZ = True
TIME_ZONE = "Europe/Berlin"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ROOT_URLCONF = "tests.urls"

_env = environ.Env()
# Two runs on one server need two names.
_name = os.environ.get("TEST_DATABASE_NAME", "test_signal_audit")
if os.environ.get("DATABASE_URL"):
    DATABASES = {
        "default": {**_env.db_url("DATABASE_URL"), "TEST": {"NAME": _name}},
        "other": {**_env.db_url("DATABASE_URL"), "TEST": {"NAME": f"{_name}_other"}},
    }
    for _database in DATABASES.values():
        if _database["ENGINE"] == "django.db.backends.mysql":
            # The server's own default may know three bytes a character, which is no emoji.
            _database["OPTIONS"] = {"charset": "utf8mb4", **_database.get("OPTIONS", {})}
            _database["TEST"]["CHARSET"] = "utf8mb4"
else:
    DATABASES = {
        alias: {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
        for alias in ("default", "other")
    }

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django_signal_audit",
    "tests.testapp",
    "tests.bank",
    "tests.replayapp",
]

MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_signal_audit.middleware.AuditMiddleware",
]

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

SIGNAL_AUDIT: dict[str, object] = {}
