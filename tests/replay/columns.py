"""Which values, expressions and filters the columns of each model get."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal

import django
from hypothesis import strategies as st

from tests.replay.operations import Cased, Copied, Fetched, Moment, Plus, Row, Shouted

PLACES = st.sampled_from([0, 0, 0, 1, 1, 2, 3])
ALIASES = st.sampled_from(["default", "default", "default", "other"])
HOLDS = st.none() | PLACES
BERLIN = dt.timezone(dt.timedelta(hours=2))
TAGS = [uuid.UUID(int=n) for n in range(1, 4)]

keys = st.integers(1, 4)
codes = st.sampled_from(["a", "b", "A", "b ", "c"])
shelf = st.none() | PLACES.map(Row) | codes
item = st.none() | PLACES.map(Row) | st.just(99)
vehicle = st.none() | PLACES.map(Row)
texts = st.sampled_from(["", "a", "A", "a ", "é", "x\x00y", "\\", "\U0001f600", "long" * 5])
short = st.sampled_from(["", "a", "A", "b", "longer than ten"])
numbers = st.integers(-1, 3)

COLUMNS = {
    "Shelf": {"code": codes, "label": short},
    "Tag": {"id": st.sampled_from(TAGS), "name": short},
    "Item": {
        "id": keys,
        "slot": st.none() | st.integers(1, 3),
        "shelf": shelf,
        "spare": shelf,
        "home": shelf,
        "guard": shelf,
        "boss": item,
        "twin": item,
        "count": numbers | st.sampled_from(["5", 2.0, True]),
        "price": st.sampled_from(
            [None, Decimal("1.0"), Decimal("1.00"), Decimal("1.005"), 0.1, 2, "3.50"]
        ),
        "moment": st.sampled_from(
            [
                None,
                dt.datetime(2024, 1, 1, 12, 0, tzinfo=dt.UTC),
                dt.datetime(2024, 1, 1, 14, 0, tzinfo=BERLIN),
                dt.datetime(2024, 1, 1, 12, 0, 0, 1, tzinfo=dt.UTC),
            ]
        ),
        "day": st.sampled_from(
            [
                None,
                dt.date(2024, 1, 1),
                dt.datetime(2024, 1, 1, 23, 30, tzinfo=dt.UTC),
                "2024-01-02",
            ]
        ),
        "ratio": st.sampled_from(
            [None, 0.0, -0.0, 0.1, 1, 1e20, 1e-300, float("nan"), float("inf")]
        ),
        "note": texts,
        "flag": st.sampled_from([True, False, 1, 0]),
        "blob": st.sampled_from([None, b"", b"a", b"\x00\xff", bytearray(b"a")]),
        "meta": st.sampled_from(
            [
                None,
                {},
                {"a": 1},
                {"a": 1.0},
                {"a": True},
                {"b": [1, {"c": None}]},
                [],
                [1],
                "x",
                1,
                True,
                1e20,
                2**70,
                0.1,
                {"é": "\\"},
            ]
        ),
        "state": short,
    },
    "Link": {"item": item, "tag": st.none() | PLACES.map(Row), "weight": numbers},
    "Vehicle": {"id": keys, "wheels": numbers, "depot": shelf, "garage": shelf},
    "Boat": {"hull": keys, "masts": numbers},
    "Building": {"id": keys, "floors": numbers, "site": shelf},
    "Animal": {"legs": numbers},
    "Pair": {"left": st.integers(1, 2), "right": st.integers(1, 2), "name": short},
    "Step": {"item": PLACES.map(Row), "name": short},
    "Draft": {"id": keys, "title": short, "version": numbers},
    "Root": {"id": keys, "name": short},
}
COLUMNS["ItemProxy"] = COLUMNS["Item"]
COLUMNS["Car"] = {**COLUMNS["Vehicle"], "vehicle_ptr": vehicle, "doors": numbers, "towed": vehicle}
COLUMNS["Racer"] = {**COLUMNS["Car"], "car_ptr": vehicle, "number": st.none() | numbers}
COLUMNS["Amphibian"] = {
    **COLUMNS["Vehicle"],
    **COLUMNS["Boat"],
    "vehicle_ptr": vehicle,
    "name": short,
}
COLUMNS["Barn"] = {**COLUMNS["Building"], "building_ptr": vehicle, "cows": numbers}
COLUMNS["Dog"] = {**COLUMNS["Animal"], "name": short}
if django.VERSION >= (6, 1):
    COLUMNS["Leaf"] = {"root": PLACES.map(Row), "name": short}
    COLUMNS["Vein"] = {"leaf": PLACES.map(Row), "name": short}
    COLUMNS["Moss"] = {"root": vehicle, "name": short}

EXPRESSIONS = {
    "count": st.builds(Plus, st.sampled_from(["count", "slot"]), st.integers(-1, 2))
    | st.builds(Cased, st.just("count"), numbers, numbers),
    "slot": st.builds(Plus, st.just("slot"), st.sampled_from([-1, 1, 0])),
    "price": st.builds(Plus, st.just("price"), st.sampled_from([0, Decimal("0.105")])),
    "ratio": st.builds(Plus, st.just("ratio"), st.just(0.1)),
    "note": st.just(Shouted("note")) | st.just(Copied("state")) | st.just(Fetched()),
    "moment": st.just(Moment()) | st.just(Copied("touched")),
    "spare": st.just(Copied("shelf")),
    "wheels": st.builds(Plus, st.just("wheels"), numbers),
    "doors": st.builds(Cased, st.just("doors"), numbers, numbers),
    "number": st.builds(Plus, st.just("number"), numbers),
    "masts": st.builds(Plus, st.just("masts"), numbers),
    "floors": st.builds(Plus, st.just("floors"), numbers),
    "cows": st.builds(Plus, st.just("cows"), numbers),
    "version": st.builds(Plus, st.just("version"), numbers),
    "weight": st.builds(Plus, st.just("weight"), numbers),
    "name": st.just(Shouted("name")),
    "label": st.just(Shouted("label")),
}
WHERE = {
    "Item": [
        {},
        {"count__gte": 1},
        {"count": 0},
        {"slot__isnull": True},
        {"pk__in": [1, 2]},
        {"shelf__label": "a"},
        {"tags__name": "a"},
        {"links__name__in": ["", "a"]},
        {"boss__count": 0},
        {"staff__isnull": False},
        {"note": "a"},
        {"meta__a": 1},
        {"meta__isnull": False},
    ],
    "Shelf": [{}, {"code": "a"}, {"label": ""}, {"items__count": 0}],
    "Tag": [{}, {"name": ""}, {"items__isnull": False}],
    "Link": [{}, {"weight__gt": 0}, {"item__count": 0}],
    "Vehicle": [{}, {"wheels__gt": 1}, {"car__doors": 2}, {"depot__label": "a"}],
    "Car": [{}, {"wheels__gt": 1}, {"doors__lt": 2}, {"pk": 1}, {"depot__label": ""}],
    "Racer": [{}, {"wheels": 4}, {"doors": 2}, {"number__isnull": True}],
    "Boat": [{}, {"masts": 1}],
    "Amphibian": [{}, {"wheels": 4}, {"masts": 1}],
    "Building": [{}, {"floors__gt": 0}, {"barn__cows": 0}],
    "Barn": [{}, {"floors": 1}, {"cows": 0}],
    "Dog": [{}, {"legs": 4}, {"name": ""}],
    "Pair": [{}, {"left": 1}, {"pk": (1, 2)}],
    "Step": [{}, {"name": ""}, {"_order": 0}],
    "Draft": [{}, {"version": 0}],
    "Root": [{}, {"name": ""}],
    "Leaf": [{}, {"root__name": ""}],
    "Vein": [{}, {"leaf__name": ""}],
    "Moss": [{}, {"root__isnull": True}],
    "Animal": [{}, {"legs": 4}],
}
WHERE["ItemProxy"] = WHERE["Item"]
