from django.core import checks
from django.test import override_settings

DATABASE = "django_signal_audit.sinks.DatabaseSink"
FILE = "django_signal_audit.sinks.FileSink"
MEMORY = "django_signal_audit.sinks.MemorySink"
STDOUT = "django_signal_audit.sinks.StdoutSink"


def error(number, message, hint):
    return checks.Error(message, hint=hint, id=f"django_signal_audit.{number}")


def warning(number, message, hint):
    return checks.Warning(message, hint=hint, id=f"django_signal_audit.{number}")


def audit(**setting):
    return override_settings(SIGNAL_AUDIT=setting)
