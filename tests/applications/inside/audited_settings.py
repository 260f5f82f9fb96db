"""The settings of an application's own suite, and, where the run asks for it, the audit.

``APPLICATION_SETTINGS`` names the suite's own module. ``APPLICATION_AUDIT`` is empty for a run
without audit; otherwise it is what ``SIGNAL_AUDIT["BLIND_WRITES"]`` is to be.
"""

from __future__ import annotations

import importlib
import os

_theirs = importlib.import_module(os.environ["APPLICATION_SETTINGS"])
globals().update({name: getattr(_theirs, name) for name in dir(_theirs) if name.isupper()})

# In both runs: Django's default takes most of the time of a suite that logs users in.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

if os.environ["APPLICATION_AUDIT"]:
    INSTALLED_APPS = [*_theirs.INSTALLED_APPS, "django_signal_audit"]
    MIDDLEWARE = [*_theirs.MIDDLEWARE, "django_signal_audit.middleware.AuditMiddleware"]
    SIGNAL_AUDIT = {
        "MODELS": {"*": {}},
        "BLIND_WRITES": os.environ["APPLICATION_AUDIT"],
        # Most tests never commit, and what waits for COMMIT would never be written.
        "BUFFER_SIZE": 1,
    }
