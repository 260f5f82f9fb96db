import os

from django.core.asgi import get_asgi_application

from django_signal_audit.asgi import audit_lifespan

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "speedster.settings")

# A server that is told to stop waits for the events it has accepted.
application = audit_lifespan(get_asgi_application())
