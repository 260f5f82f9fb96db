"""What Django does not document is touched by ``internals`` and by nothing else of the package.

ruff's SLF001 finds ``queryset._hints``. Here are the other ways to the same: imports of
undocumented modules, private names as strings, and parts of a queryset's ``query``. That what is
wrapped is guarded, ``test_internals`` says.
"""

import ast
from pathlib import Path

import pytest

import django_signal_audit

pytestmark = pytest.mark.once

PACKAGE = Path(django_signal_audit.__file__).parent
MODULES = sorted(
    path
    for path in PACKAGE.rglob("*.py")
    if not {"internals", "migrations"} & set(path.relative_to(PACKAGE).parts)
)

# Modules that the documentation of Django does not name, and what is documented of them yet.
UNDOCUMENTED = {
    "asgiref.sync": {
        "async_to_sync",
        "iscoroutinefunction",
        "markcoroutinefunction",
        "sync_to_async",
    },
    "django.apps.registry": set(),
    "django.core.handlers": set(),
    "django.core.serializers.base": {"DeserializationError", "DeserializedObject"},
    "django.db.backends": {"connection_created"},
    "django.db.migrations.recorder": set(),
    "django.db.models.base": set(),
    "django.db.models.constants": set(),
    "django.db.models.deletion": {"ProtectedError", "RestrictedError"},
    "django.db.models.fields.related": set(),
    "django.db.models.fields.related_descriptors": set(),
    "django.db.models.fields.reverse_related": set(),
    "django.db.models.options": set(),
    "django.db.models.query": {"Prefetch", "QuerySet", "RawQuerySet", "prefetch_related_objects"},
    "django.db.models.query_utils": set(),
    "django.db.models.sql": set(),
    "django.dispatch.dispatcher": set(),
    "django.utils.functional": {
        # The classes can be told from others; what they hold is private.
        "LazyObject",
        "Promise",
        "SimpleLazyObject",
        "cached_property",
        "keep_lazy",
    },
}

DOCUMENTED = {"_base_manager", "_default_manager", "_meta", "_state"}


def nodes_of(path):
    """The nodes of a module; what only type checkers see is not touched."""
    waiting = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
        else:
            waiting += ast.iter_child_nodes(node)


def undocumented(module, name):
    """Whether a name of a module is one that Django does not document."""
    for private, public in UNDOCUMENTED.items():
        if module == private or module.startswith(f"{private}."):
            return name not in public
        if f"{module}.{name}" == private:
            return True
    return module.startswith(("django", "asgiref")) and name.startswith("_")


def imports(node):
    if isinstance(node, ast.ImportFrom) and node.module:
        return [f"{node.module}.{a.name}" for a in node.names if undocumented(node.module, a.name)]
    if isinstance(node, ast.Import):
        return [a.name for a in node.names if undocumented(a.name, "")]
    return []


def is_private(text):
    known = text in DOCUMENTED or text.startswith(("__", "_signal_audit"))
    return text.startswith("_") and not known and text.isidentifier()


def strings(node):
    """Private names in ``getattr(x, "_name")`` and its like, and in ``vars(x)["_name"]``."""
    found = []
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        if node.func.id in {"getattr", "setattr", "hasattr", "delattr"}:
            found = node.args[1:2]
    elif isinstance(node, ast.Subscript):
        found = [node.slice]
    return [
        repr(a.value)
        for a in found
        if isinstance(a, ast.Constant) and isinstance(a.value, str) and is_private(a.value)
    ]


def parts_of_queries(node):
    """``queryset.query.where`` and its like; ``query.sql`` of a log is another thing."""
    inner = node.value if isinstance(node, ast.Attribute) else None
    if isinstance(inner, ast.Attribute) and inner.attr == "query":
        return [ast.unparse(node)]
    return []


FINDERS = {
    "imports what Django does not document": imports,
    "names what is private to Django": strings,
    "takes a queryset's query apart": parts_of_queries,
}


@pytest.mark.parametrize("what", FINDERS)
def test_no_module_but_internals(what):
    found = {
        str(path.relative_to(PACKAGE)): texts
        for path in MODULES
        if (texts := [text for node in nodes_of(path) for text in FINDERS[what](node)])
    }
    assert not found, f"Each {what}. Give internals a function for it."


def test_all_modules_are_looked_at():
    assert len(MODULES) > 100
    assert not any("internals" in path.parts[len(PACKAGE.parts) :] for path in MODULES)


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("from django.db.models.sql import Query", "imports what Django does not document"),
        ("from django.db.models import sql", "imports what Django does not document"),
        ("import django.db.models.deletion", "imports what Django does not document"),
        ("from django.utils.functional import empty", "imports what Django does not document"),
        ("getattr(queryset, '_db', None)", "names what is private to Django"),
        ("vars(lazy)['_wrapped']", "names what is private to Django"),
        ("queryset.query.where", "takes a queryset's query apart"),
    ],
)
def test_it_is_found(tmp_path, code, what):
    path = tmp_path / "module.py"
    path.write_text(code)
    assert any(FINDERS[what](node) for node in nodes_of(path))


@pytest.mark.parametrize(
    "code",
    [
        "from django.db.models.query import QuerySet",
        "from django.db.backends.signals import connection_created",
        "if TYPE_CHECKING:\n    from django.db.models.sql import Query",
        "getattr(request, '_signal_audit_actor', None)",
        "getattr(kind, '_meta', None)",
    ],
)
def test_what_is_documented_or_ours_is_not_found(tmp_path, code):
    path = tmp_path / "module.py"
    path.write_text(code)
    assert not any(find(node) for node in nodes_of(path) for find in FINDERS.values())
