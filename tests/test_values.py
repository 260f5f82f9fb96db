"""Raw values in, JSON-safe out."""

from __future__ import annotations

import enum
import hashlib
import ipaddress
import json
import math
import re
import sys
import time as clock
import uuid
from collections import OrderedDict, UserDict, deque, namedtuple
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from zoneinfo import ZoneInfo

import orjson
import pytest
from django.contrib.auth import get_user_model
from django.core.files.base import ContentFile
from django.db.models.query import QuerySet
from django.utils.datastructures import MultiValueDict
from django.utils.functional import SimpleLazyObject, lazy
from django.utils.safestring import mark_safe
from hypothesis import given, settings
from hypothesis import strategies as st

from django_signal_audit import values
from django_signal_audit.event import REDACTED
from django_signal_audit.values import (
    KEY_LENGTH,
    MAX_DEPTH,
    make_safe,
    restore_text,
    safe_text,
    stable_key,
)

BROKEN = re.compile("[\x00\ud800-\udfff]")


def sensitive(name):
    return "password" in name


def kind(value):
    """Test ids by type: pytest's own would print the values, which raise or never end."""
    return type(value).__name__


def sha(text):
    return hashlib.sha256(text if isinstance(text, bytes) else text.encode()).hexdigest()


class Raising:
    def __str__(self):
        raise ZeroDivisionError

    __repr__ = __str__


class Colour(enum.Enum):
    RED = "red"
    NESTED = (1, "a")


class Level(enum.IntEnum):
    HIGH = 3


class Flags(enum.Flag):
    A = 1
    B = 2


class Word(enum.StrEnum):
    YES = "yes"


class Text(str):
    __slots__ = ()

    def __str__(self):
        return "lies"


class Model:
    """As much of a model instance as is asked for."""

    _meta = SimpleNamespace(label_lower="shop.order")

    def __init__(self, pk):
        self.pk_value = pk

    @property
    def pk(self):
        return self.pk_value

    def __str__(self):
        raise AssertionError("__str__ may run queries")

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)  # pytest and hypothesis ask for these
        raise AssertionError(f"{name} may be deferred")


class Offset(tzinfo):
    def utcoffset(self, _when):
        raise ZeroDivisionError


# Single values


@pytest.mark.parametrize(
    ("value", "safe"),
    [
        (None, None),
        (True, True),
        (False, False),
        (0, 0),
        (-(2**63), -(2**63)),
        (2**64 - 1, 2**64 - 1),
        (2**64, {"$int": "18446744073709551616"}),
        (-(2**63) - 1, {"$int": "-9223372036854775809"}),
        (10**999, {"$int": "1" + "0" * 999}),
        (-(10**999), {"$int": "-1" + "0" * 999}),
        (1.5, 1.5),
        (math.nan, {"$float": "NaN"}),
        (math.inf, {"$float": "Infinity"}),
        (-math.inf, {"$float": "-Infinity"}),
        ("", ""),
        ("emoji 🦄 é", "emoji 🦄 é"),
        ("a\x00b\\c\ud800", {"$text": r"a\u0000b\\c\ud800"}),
        ("only \\ is clean", "only \\ is clean"),
        (b"abc", {"$bytes": {"size": 3, "sha256": sha("abc")}}),
        (bytearray(b"abc"), {"$bytes": {"size": 3, "sha256": sha("abc")}}),
        (memoryview(b"axbxcx")[::2], {"$bytes": {"size": 3, "sha256": sha("abc")}}),
        (Decimal("1.00"), "1.00"),
        (Decimal("NaN"), "NaN"),
        (Decimal("-Infinity"), "-Infinity"),
        (datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC), "2024-05-06T07:08:09.000000Z"),
        (
            datetime(2024, 5, 6, 1, tzinfo=ZoneInfo("Europe/Berlin")),
            "2024-05-05T23:00:00.000000Z",
        ),
        (datetime(2024, 5, 6), "2024-05-06T00:00:00.000000"),  # noqa: DTZ001
        (datetime.min, "0001-01-01T00:00:00.000000"),  # noqa: DTZ901
        (
            datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
            "0001-01-01T00:00:00.000000+14:00",
        ),
        (
            datetime.max.replace(tzinfo=timezone(timedelta(hours=-12))),
            "9999-12-31T23:59:59.999999-12:00",
        ),
        (datetime(33, 1, 1, tzinfo=UTC), "0033-01-01T00:00:00.000000Z"),
        (date(2024, 5, 6), "2024-05-06"),
        (time(7, 8), "07:08:00.000000"),
        (time(7, 8, tzinfo=UTC), "07:08:00.000000+00:00"),
        (timedelta(days=1, hours=2), "P1DT02H00M00S"),
        (timedelta.min, "-P999999999DT00H00M00S"),
        (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        (Colour.RED, "red"),
        (Colour.NESTED, [1, "a"]),
        (Level.HIGH, 3),
        (Flags.A | Flags.B, 3),
        (Word.YES, "yes"),
        (mark_safe("<b>"), "<b>"),
        (Text("truth"), "truth"),
        (lazy(lambda: "later", str)(), "later"),
        (Path("/tmp/x"), "/tmp/x"),
        (ipaddress.ip_address("::1"), "::1"),
        (ipaddress.ip_network("10.0.0.0/8"), "10.0.0.0/8"),
        (ContentFile(b"x", name="a/b.txt"), "a/b.txt"),
        (ContentFile(b"x"), None),
        (ValueError("bad"), {"type": "ValueError", "message": "bad"}),
        (
            ValueError(Raising()),
            {"type": "ValueError", "message": "<unprintable ValueError: ZeroDivisionError>"},
        ),
        (Model(7), {"object_type": "shop.order", "object_id": "7"}),
        (Model(None), {"object_type": "shop.order", "object_id": None}),
        (Model((1, "a")), {"object_type": "shop.order", "object_id": '[1,"a"]'}),
    ],
    ids=kind,
)
def test_single_value(value, safe):
    result = make_safe(value)
    assert result == safe
    assert type(result) is type(safe)
    # Inside a container it is the same, and plain JSON.
    assert orjson.loads(orjson.dumps(make_safe([value], limit=100_000))) == [safe]


@pytest.mark.parametrize("number", [10**1000, 10**5000, -(10**5000)], ids=kind)
def test_endless_integer_is_cut_with_its_checksum(number):
    text = f"{number:x}"
    assert make_safe(number) == {
        "$cut": {"size": len(text), "sha256": sha(text), "head": text[:32]}
    }


def test_integer_does_not_depend_on_pythons_digit_limit():
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(640)
    try:
        assert make_safe(10**999) == {"$int": "1" + "0" * 999}
    finally:
        sys.set_int_max_str_digits(before)


def test_long_text_is_cut_with_the_size_and_checksum_of_its_bytes():
    text = "é" * 11
    assert make_safe(text, limit=11) == text
    assert make_safe(text, limit=10) == {"$cut": {"size": 22, "sha256": sha(text), "head": text}}


def test_head_of_a_cut_text_is_plain_and_short():
    text = "\x00\ud800" + "x" * 20_000
    cut = make_safe(text)["$cut"]
    assert cut["head"] == r"\x00\ud800" + "x" * 198
    assert cut["sha256"] == sha(text.encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("text", ["\udc80path", "\\u0000\x00", "\\\\\ud800"], ids=kind)
def test_restore_text_gives_the_original(text):
    assert restore_text(make_safe(text)["$text"]) == text


@given(st.text(st.characters(categories=None) | st.sampled_from("\x00\\\ud800\udfffu0")))
def test_restore_text_inverts_every_escape(text):
    safe = make_safe(text)
    assert (restore_text(safe["$text"]) if isinstance(safe, dict) else safe) == text


def test_path_with_undecodable_bytes_is_marked():
    assert make_safe(Path("a\udc80")) == {"$text": r"a\udc80"}


# Never evaluated, never trusted


def test_querysets_generators_and_iterators_are_not_consumed():
    numbers = (n for n in range(3))

    class Exploding(QuerySet):
        def _fetch_all(self):
            raise AssertionError

    assert make_safe(numbers) == {"$type": "builtins.generator"}
    assert make_safe([iter([1])]) == [{"$type": "builtins.list_iterator"}]
    assert make_safe(Exploding.__new__(Exploding))["$type"].endswith("Exploding")
    assert list(numbers) == [0, 1, 2]


def test_anything_else_is_its_bounded_repr_and_type():
    assert make_safe(range(3)) == {"$repr": "range(0, 3)", "$type": "builtins.range"}
    assert make_safe(int) == {"$repr": "<class 'int'>", "$type": "builtins.type"}
    long = make_safe(SimpleNamespace(x="y" * 5000))
    assert len(long["$repr"]) <= 1000
    assert long["$repr"].endswith("]")


def test_repr_that_names_a_secret_is_masked_whole():
    value = SimpleNamespace(password="hunter2")
    assert make_safe(value, is_sensitive=sensitive) == {
        "$repr": REDACTED,
        "$type": "types.SimpleNamespace",
    }


def raise_error(*_args):
    raise ZeroDivisionError


@pytest.mark.parametrize(
    "build",
    [
        Raising,
        lazy(raise_error, str),
        lambda: SimpleLazyObject(raise_error),
        lambda: datetime(2024, 1, 1, tzinfo=Offset()),
        type("Broken", (UserDict,), {"items": raise_error}),
        type("Broken", (list,), {"__iter__": raise_error}),
        type("Broken", (), {"_meta": None, "pk": property(raise_error)}),
    ],
)
def test_value_whose_own_code_raises_leaves_a_mark(build):
    value = build()
    safe = make_safe({"before": 1, "it": value, "after": 2})
    assert safe["it"]["$repr_failed"] == "ZeroDivisionError"
    assert "." in safe["it"]["$type"]
    assert (safe["before"], safe["after"]) == (1, 2)
    assert make_safe(value) == safe["it"]


def test_lazy_object_is_what_it_wraps():
    assert make_safe(SimpleLazyObject(lambda: {"a": 1})) == {"a": 1}
    assert make_safe(SimpleLazyObject(lambda: Model(1)))["object_id"] == "1"


def test_keyboard_interrupt_is_not_swallowed():
    class Interrupting:
        def __repr__(self):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_safe(Interrupting())


def test_model_instance_is_its_type_and_key_without_a_query():
    user_model = get_user_model()
    user = user_model.from_db("default", ["id"], [7])
    assert user.get_deferred_fields()
    label = user_model._meta.label_lower
    assert make_safe(user) == {"object_type": label, "object_id": "7"}
    assert make_safe(user_model()) == {"object_type": label, "object_id": None}
    assert make_safe(user_model.objects.all())["$type"] == "django.db.models.query.QuerySet"


# Containers


def test_containers_become_new_lists_and_dicts():
    Point = namedtuple("Point", "x y")  # noqa: PYI024
    value = {"t": (1, 2), "d": deque([1]), "p": Point(1, 2), "m": MappingProxyType({"a": 1})}
    value["o"] = OrderedDict(a=1)
    value["v"] = {"k": 1}.values()
    safe = make_safe(value)
    assert safe == {"t": [1, 2], "d": [1], "p": [1, 2], "m": {"a": 1}, "o": {"a": 1}, "v": [1]}
    assert safe is not value


def test_sets_are_sorted_by_their_json_text():
    assert make_safe({"b", "a", 10, 9, None}) == ["a", "b", 10, 9, None]
    assert make_safe(frozenset({2, 1})) == [1, 2]


def test_every_value_of_a_query_dict_is_kept():
    assert make_safe(MultiValueDict({"a": ["1", "2"]})) == {"a": ["1", "2"]}


def test_keys_become_text():
    key = uuid.UUID(int=1)
    value = {1: "a", None: "b", (1, 2): "c", key: "d", b"raw\xff": "e", Word.YES: "f", "x\x00": "g"}
    assert make_safe(value) == {
        "1": "a",
        "None": "b",
        "[1, 2]": "c",
        str(key): "d",
        "raw\\xff": "e",
        "yes": "f",
        "x\\x00": "g",
    }


def test_keys_that_become_equal_lose_nothing():
    assert make_safe({1: "a", "1": "b", 1.5: "c", "1.5": "d", "1~2": "e"}) == {
        "1": "a",
        "1~2": "b",
        "1.5": "c",
        "1.5~2": "d",
        "1~2~2": "e",
    }


def test_endless_key_is_shortened_and_still_distinct():
    safe = make_safe({"k" * 300 + "a": 1, "k" * 300 + "b": 2})
    assert sorted(safe.values()) == [1, 2]
    assert all(len(key) == KEY_LENGTH for key in safe)


def test_container_inside_itself_is_marked():
    value = [1]
    value.append(value)
    mapping = {}
    mapping["self"] = mapping
    assert make_safe(value) == [1, {"$cycle": True}]
    assert make_safe(mapping) == {"self": {"$cycle": True}}


def test_same_container_twice_is_no_cycle():
    shared = [1]
    assert make_safe([shared, shared]) == [[1], [1]]


def test_too_deep_nesting_is_cut():
    value = []
    for _ in range(5000):
        value = [value]
    safe = make_safe(value)
    for _ in range(MAX_DEPTH):
        (safe,) = safe
    assert safe == {"$cut": {"depth": MAX_DEPTH}}


def test_container_longer_than_the_limit_is_cut_whole():
    value = {"a": ["é" * 30] * 10}
    text = orjson.dumps(value)
    assert make_safe(value, limit=len(text)) == value
    assert make_safe(value, limit=len(text) - 1) == {
        "$cut": {"size": len(text), "sha256": sha(text), "head": text.decode()[:200]}
    }


def test_long_text_in_a_container_is_cut_where_it_stands():
    safe = make_safe({"a": 1, "b": "x" * 20_000})
    assert safe["a"] == 1
    assert safe["b"]["$cut"]["size"] == 20_000


@contextmanager
def untraced():
    """Without coverage's looking at each line, which takes longer than what is timed."""
    trace = sys.gettrace()
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(trace)


def test_list_of_a_million_items_is_cut_with_its_checksum():
    value = list(range(1_000_000))
    started = clock.process_time()
    with untraced():
        safe = make_safe(value)
    assert safe["$cut"]["sha256"] == sha(orjson.dumps(value))
    assert clock.process_time() - started < 10


def test_endless_and_shared_data_is_given_up_early():
    laughs = ["lol"]
    for _ in range(40):
        laughs = [laughs] * 10
    started = clock.process_time()
    with untraced():
        assert make_safe(laughs) == {"$cut": {"items": 10}}
        assert make_safe(["x" * 20_000] * 1_000_000) == {"$cut": {"items": 1_000_000}}
    assert clock.process_time() - started < 20


def test_data_beyond_the_bound_of_items_is_given_up_at_every_depth(monkeypatch):
    monkeypatch.setattr(values, "MAX_ITEMS", 100)
    shared = [["a"] * 30] * 10
    assert make_safe(shared, limit=90) == {"$cut": {"items": 10}}
    assert make_safe({"a": {"b": shared}}, limit=90) == {"$cut": {"items": 1}}
    assert make_safe(["a"] * 20, limit=90) == ["a"] * 20


# Masks


def test_sensitive_keys_are_masked_at_every_depth_unless_none():
    value = {"password": "x", "a": [{"old_password": None, "new_password": ""}], b"password": 1}
    assert make_safe(value, is_sensitive=sensitive) == {
        "password": REDACTED,
        "a": [{"old_password": None, "new_password": REDACTED}],
        "password~2": REDACTED,
    }


def test_masked_value_is_neither_evaluated_nor_shown():
    lazy_value = SimpleLazyObject(lambda: pytest.fail("evaluated"))
    assert make_safe({"password": lazy_value}, is_sensitive=sensitive, secrets=set()) == {
        "password": REDACTED
    }


def test_strings_and_numbers_inside_a_masked_value_are_collected():
    found = set()
    nested = {"user": "bob", "n": [1, 2.5, True, None, Decimal("3.0"), b"raw", Word.YES, ""]}
    nested["again"] = nested
    make_safe({"name": "x", "password": (nested, REDACTED)}, is_sensitive=sensitive, secrets=found)
    assert found == {"bob", "1", "2.5", "3.0", "raw", "yes"}


def test_argument_is_never_changed():
    value = {"password": "x", "s": {1}, 2: [b"x"]}
    make_safe(value, is_sensitive=sensitive, secrets=set())
    assert value == {"password": "x", "s": {1}, 2: [b"x"]}


# All of it at once

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=2**60)
    | st.floats()
    | st.text(st.characters(categories=None))
    | st.binary()
    | st.decimals()
    | st.datetimes()
    | st.datetimes(timezones=st.timezones())
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.uuids()
    | st.ip_addresses()
    | st.complex_numbers()
    | st.sampled_from([Colour.RED, Level.HIGH, Flags.A, KeyError("x"), object, ...])
    | st.builds(Raising)
    | st.builds(Model, st.integers())
)
hashables = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
anything = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(hashables | st.tuples(hashables), inner)
        | st.sets(hashables)
        | st.builds(iter, st.lists(inner))
    ),
    max_leaves=20,
)


def assert_clean(value):
    if isinstance(value, dict):
        for key, item in value.items():
            assert type(key) is str
            assert_clean(key)
            assert_clean(item)
    elif isinstance(value, list):
        for item in value:
            assert_clean(item)
    elif isinstance(value, str):
        assert not BROKEN.search(value)


@settings(max_examples=300, deadline=None)
@given(anything, st.sampled_from([0, 5, 100, 10_000]))
def test_any_value_is_json_afterwards(value, limit):
    safe = make_safe(value, limit=limit, is_sensitive=sensitive, secrets=set())
    assert orjson.loads(orjson.dumps(safe)) == safe
    assert json.loads(json.dumps(safe, allow_nan=False)) == safe
    assert_clean(safe)


@settings(max_examples=200, deadline=None)
@given(anything)
def test_made_safe_twice_is_made_safe_once(value):
    safe = make_safe(value)
    assert make_safe(safe, limit=10**6) == safe


# Text for columns


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", "plain"),
        ("a\x00b\udc80", r"a\x00b\udc80"),
        (5, "5"),
        (None, "None"),
        (mark_safe("<b>"), "<b>"),
        (Raising(), "<unprintable Raising: ZeroDivisionError>"),
        (lazy(lambda: "later", str)(), "later"),
        (10**5000, "<unprintable int: ValueError>"),
    ],
    ids=kind,
)
def test_safe_text(value, text):
    result = safe_text(value)
    assert result == text
    assert type(result) is str


def test_cut_text_counts_what_is_left_out():
    assert safe_text("x" * 1000) == "x" * 1000
    result = safe_text("x" * 1001)
    assert 995 < len(result) <= 1000
    kept, left_out = re.fullmatch(r"(x+)\.\.\.\[\+(\d+)\]", result).groups()
    assert len(kept) + int(left_out) == 1001


@given(st.text(st.characters(categories=None)), st.integers(-1, 40))
def test_text_is_never_longer_than_its_limit_and_clean(text, limit):
    result = safe_text(text, limit=limit)
    assert len(result) <= max(limit, 0)
    assert not BROKEN.search(result)


# Keys


@pytest.mark.parametrize(
    ("value", "key"),
    [
        (5, "5"),
        ("abc", "abc"),
        (Text("truth"), "truth"),
        (Level.HIGH, "3"),
        (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        ((1, uuid.UUID(int=5), "é"), '[1,"00000000-0000-0000-0000-000000000005","é"]'),
        (b"\x01\xff", "01ff"),
        (memoryview(b"\x01\xff"), "01ff"),
        (datetime(2024, 5, 6, tzinfo=UTC), "2024-05-06T00:00:00.000000Z"),
        (date(2024, 5, 6), "2024-05-06"),
        (Decimal("1.50"), "1.50"),
        ("a\x00\udc80", r"a\x00\udc80"),
        ("k" * 255, "k" * 255),
        ("k" * 256, "k" * 190 + "~" + sha("k" * 256)),
    ],
    ids=kind,
)
def test_stable_key(value, key):
    assert stable_key(value) == key


@settings(deadline=None)
@given(anything)
def test_any_value_has_a_key_that_fits_its_column(value):
    key = stable_key(value)
    assert len(key) <= KEY_LENGTH
    assert not BROKEN.search(key)
