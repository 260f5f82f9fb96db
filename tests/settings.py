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
if os.environ.get("DATABASE_URL"):
    DATABASES = {
        "default": _env.db_url("DATABASE_URL"),
        "other": _env.db_url("DATABASE_URL"),
    }
    DATABASES["other"]["TEST"] = {"NAME": "test_signal_audit_other"}
    DATABASES["default"]["TEST"] = {"NAME": "test_signal_audit"}
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
]

MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_signal_audit.middleware.AuditMiddleware",
]

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

SIGNAL_AUDIT: dict[str, object] = {}
