"""What the type checker's Django plugin asks for."""

INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "django_signal_audit"]
USE_TZ = True
