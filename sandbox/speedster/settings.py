"""Settings of the sandbox; every value that a machine may want to change is in ``.env.example``."""

from pathlib import Path

import environ

from django_signal_audit.environ import sinks_from_env

BASE_DIR = Path(__file__).resolve().parent.parent

env = environ.Env()
if (BASE_DIR / ".env").exists():
    env.read_env(BASE_DIR / ".env")

DATA_DIR = Path(env.str("SANDBOX_DATA_DIR", default=str(BASE_DIR))).resolve()

DEBUG = env.bool("DEBUG", default=True)
SECRET_KEY = env.str("SECRET_KEY", default="for the sandbox only, never for a real site")
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])

DATABASES = {"default": env.db_url("DATABASE_URL", default=f"sqlite:///{DATA_DIR / 'db.sqlite3'}")}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    DATABASES["default"]["OPTIONS"] = {
        # A transaction that reads first and writes later cannot wait for the write lock: SQLite
        # answers "database is locked" at once. IMMEDIATE takes the lock at BEGIN, and waits.
        "transaction_mode": "IMMEDIATE",
        "timeout": 30,
        # Readers do not hold up the one writer.
        "init_command": "PRAGMA journal_mode=WAL",
    }
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_signal_audit",
    "speedy",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_signal_audit.middleware.AuditMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]

ROOT_URLCONF = "speedster.urls"
WSGI_APPLICATION = "speedster.wsgi.application"
ASGI_APPLICATION = "speedster.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

LANGUAGE_CODE = "en"
USE_TZ = True
TIME_ZONE = env.str("TIME_ZONE", default="UTC")
STATIC_URL = "static/"

# Where the trail goes, unless AUDIT_SINKS says otherwise.
SINKS = {
    # Inside the transaction of the change: both are there, or neither.
    "database": {"BACKEND": "django_signal_audit.sinks.DatabaseSink"},
    # One JSON object a line, just after COMMIT.
    "file": {
        "BACKEND": "django_signal_audit.sinks.FileSink",
        "OPTIONS": {"path": str(DATA_DIR / "audit.jsonl")},
        "FORMAT": "json",
        # What cannot be written waits, and is written later in order.
        "ON_ERROR": "spool",
    },
    # One short line a change, to read along while something happens.
    "stdout": {"BACKEND": "django_signal_audit.sinks.StdoutSink", "FORMAT": "text"},
    # The log that this application had from the start, in its own line format. It holds only
    # what the code says by itself through event_signal, no model changes.
    "log": {
        "BACKEND": "django_signal_audit.sinks.FileSink",
        "OPTIONS": {"path": str(DATA_DIR / "log_event.log")},
        "FORMAT": "text",
        "EVENTS": ["event"],
    },
}

# Which models are audited is said where they are defined, with @audited in speedy/models.py.
SIGNAL_AUDIT = {
    "SINKS": sinks_from_env(env, "AUDIT_SINKS", default=SINKS),
    # What a sink refuses waits here, and here all processes count for `manage.py audit_status`.
    "STATE_DIR": DATA_DIR / "audit-state",
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "loggers": {
        "speedy": {"handlers": ["console"], "level": env.str("LOG_LEVEL", default="INFO")},
    },
}
