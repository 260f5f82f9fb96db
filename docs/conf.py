"""How Sphinx builds these pages: ``tox run -e docs``."""

from __future__ import annotations

from importlib.metadata import version as installed_version

project = "django-signal-audit"
author = "the django-signal-audit contributors"
project_copyright = author
version = release = installed_version("django-signal-audit")

extensions = ["myst_parser"]
# Links such as settings.md#entries-of-sinks work here as they do where Markdown is shown.
myst_heading_anchors = 3
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"django-signal-audit {release}"
html_show_sphinx = False
