"""Sequences of writes for hypothesis: few rows, few keys, so that they often collide."""

from __future__ import annotations

import django
from hypothesis import strategies as st

from tests.replay.columns import ALIASES, COLUMNS, EXPRESSIONS, HOLDS, PLACES, WHERE
from tests.replay.operations import (
    Atomic,
    BulkCreate,
    BulkUpdate,
    Create,
    Delete,
    DeleteMany,
    Fixture,
    Manual,
    Moment,
    Mutate,
    Plus,
    Related,
    Reorder,
    Save,
    Savepoint,
    Shouted,
    Through,
    Update,
)

KEYS = {"id", "code", "hull", "left", "right", "vehicle_ptr", "car_ptr", "building_ptr"}
PLAIN_KEYS = {"Item", "ItemProxy", "Draft", "Root", "Pair"}


# Those of which there is the most to go wrong come up more often.
NAMES = [
    *(["Item"] * 5 + ["Shelf"] * 3 + ["Tag"] * 2 + ["Car"] * 2 + ["Draft"] * 2),
    *("ItemProxy", "Link", "Vehicle", "Racer", "Boat", "Amphibian", "Building", "Barn"),
    *("Animal", "Dog", "Pair", "Step", "Root", "Root"),
    *(("Leaf", "Vein", "Moss") if django.VERSION >= (6, 1) else ()),
]
NEEDED = {
    "Shelf": ("code",),
    "Pair": ("left", "right"),
    "Step": ("item",),
    "Link": ("item", "tag"),
    "Leaf": ("root",),
    "Vein": ("leaf",),
}
CHILDREN = {"Car", "Racer", "Amphibian", "Barn", "Dog"}

MODELS = st.sampled_from(NAMES)
RELATIONS = [
    ("Item", "tags", "Tag"),
    ("Item", "peers", "Item"),
    ("Item", "follows", "Item"),
    ("Item", "links", "Tag"),
    ("Item", "marks", "Tag"),
    ("Draft", "tags", "Tag"),
]
MANAGERS = [
    *((owner, name) for owner, name, _ in RELATIONS),
    ("ItemProxy", "tags"),
    ("Item", "followers"),
    ("Tag", "items"),
    ("Tag", "linked"),
    ("Tag", "marked"),
    ("Shelf", "items"),
    ("Shelf", "spares"),
    ("Item", "staff"),
    ("Item", "step_set"),
    ("Shelf", "vehicle_set"),
]


@st.composite
def values_of(draw, model, *, expressions=False, keys=False, most=4):
    """Some columns of a model and their new values."""
    columns = COLUMNS[model]
    names = sorted(columns if keys else set(columns) - KEYS)
    chosen = draw(st.lists(st.sampled_from(names), unique=True, max_size=most))
    found = {}
    for name in chosen:
        if expressions and name in EXPRESSIONS and draw(st.integers(0, 2)) == 0:
            found[name] = draw(EXPRESSIONS[name])
        else:
            found[name] = draw(columns[name])
    return found


@st.composite
def creates(draw, models=MODELS):
    model = draw(models)
    how = draw(
        st.sampled_from(
            [
                "create",
                "create",
                "save",
                "acreate",
                "get_or_create",
                "update_or_create",
                "raw",
                "force_insert",
            ]
        )
    )
    values = draw(values_of(model, keys=True))
    if how == "save" and "moment" in values and draw(st.booleans()):
        values["moment"] = Moment()
    for name in NEEDED.get(model, ()):
        values.setdefault(name, draw(COLUMNS[model][name]))
    return Create(model, values, how, draw(HOLDS), draw(ALIASES))


@st.composite
def saves(draw, models=MODELS):
    model = draw(models)
    load = draw(
        st.sampled_from(
            ["get", "get", "only", "defer", "held", "held", "construct", "clone", "refresh"]
        )
    )
    how = draw(
        st.sampled_from(
            [
                "save",
                "save",
                "update_fields",
                "update_fields",
                "asave",
                "raw",
                "twice",
                "force_update",
                "delete_and_save",
            ]
        )
    )
    if how == "delete_and_save" and load == "construct":
        load = "get"  # Django cannot delete a child without the keys of its parents
    values = draw(values_of(model, expressions=True))
    return Save(model, draw(PLACES), values, load, how, draw(HOLDS), draw(ALIASES))


mutations = st.builds(
    Mutate,
    PLACES,
    st.sampled_from(["a", "b"]),
    st.sampled_from([1, True, 1.0, None, [1]]),
    st.sampled_from(["save", "update_fields"]),
    ALIASES,
)


deletes = st.builds(
    Delete,
    MODELS,
    PLACES,
    st.sampled_from(["delete", "delete", "adelete", "held", "keep_parents"]),
    ALIASES,
)


@st.composite
def deletes_of_many(draw):
    model = draw(MODELS)
    how = draw(st.sampled_from(["delete", "delete", "adelete", "subquery"]))
    return DeleteMany(model, draw(st.sampled_from(WHERE[model])), how, draw(ALIASES))


@st.composite
def updates(draw, models=MODELS):
    model = draw(models)
    how = draw(st.sampled_from(["update"] * 4 + ["aupdate", "distinct", "exclude", "annotated"]))
    keyed = model in PLAIN_KEYS and draw(st.integers(0, 9)) == 0
    values = draw(values_of(model, expressions=True, keys=keyed, most=3))
    order = draw(st.sampled_from([None, None, None, "pk", "-pk"]))
    return Update(model, draw(st.sampled_from(WHERE[model])), values, how, order, draw(ALIASES))


BULK = st.sampled_from([name for name in NAMES if name not in CHILDREN])


@st.composite
def bulk_creates(draw):
    conflicts = draw(st.sampled_from(["", "", "ignore", "update"]))
    # Here, too, each row has a key or a unique value, so that it can be found again.
    model = draw(st.sampled_from(["Item", "Shelf", "Tag", "Item"]) if conflicts else BULK)
    unique = {"Item": draw(st.sampled_from(["id", "slot"])), "Shelf": "code"}.get(model, "id")
    rows = []
    for _ in range(draw(st.integers(0, 3))):
        values = draw(values_of(model, keys=True, expressions=False))
        needed = NEEDED.get(model, ())
        for name in (*needed, *((unique,) if conflicts else ())):
            if values.get(name) is None:
                strategy = COLUMNS[model][name]
                values[name] = draw(strategy.filter(lambda value: value is not None))
        rows.append(values)
    changed = draw(st.lists(st.sampled_from(sorted(set(COLUMNS[model]) - KEYS)), unique=True,
                            min_size=1, max_size=3))  # fmt: skip
    if model == "Item" and draw(st.booleans()):
        changed = [*changed, "touched"]
    size = draw(st.sampled_from([None, 1, 2]))
    return BulkCreate(
        model, tuple(rows), conflicts, unique, tuple(changed), size, draw(HOLDS), draw(ALIASES)
    )


@st.composite
def bulk_updates(draw):
    model = draw(MODELS)
    names = sorted(set(COLUMNS[model]) - KEYS)
    fields = draw(st.lists(st.sampled_from(names), unique=True, min_size=1, max_size=3))
    places = draw(st.lists(PLACES, unique=True, max_size=3))
    values = tuple(
        {
            name: draw(
                EXPRESSIONS[name]
                if name in EXPRESSIONS and draw(st.integers(0, 3)) == 0
                else COLUMNS[model][name]
            )
            for name in fields
        }
        for _ in places
    )
    size = draw(st.sampled_from([None, 1, 2]))
    return BulkUpdate(model, tuple(places), values, tuple(fields), size, draw(ALIASES))


@st.composite
def related(draw):
    model, manager = draw(st.sampled_from(MANAGERS))
    far = manager not in {"items", "spares", "staff", "step_set", "vehicle_set"} or model == "Tag"
    methods = ["add", "add", "remove", "remove", "set", "set", "clear", "clear", "set_clear"]
    methods += ["aadd", "aremove"]
    methods += ["set_keys"] if far else ["update"]
    if manager == "step_set":  # the foreign key cannot be null
        methods = ["add", "aadd", "set", "update"]
    if manager not in {"step_set", "links", "linked", "marks", "marked"}:
        methods.append("create")
    methods.append("delete")
    method = draw(st.sampled_from(methods))
    options = {}
    if not far and method in {"add", "remove", "set", "clear"}:
        options = draw(st.sampled_from([{}, {"bulk": False}, {"bulk": True}]))
    elif method == "update":
        name, value = {
            "items": ("count", Plus("count", 1)),
            "spares": ("note", Shouted("note")),
            "staff": ("flag", True),
            "step_set": ("name", "a"),
            "vehicle_set": ("wheels", Plus("wheels", 1)),
        }[manager]
        options = {name: value}
    elif manager in {"links", "linked"} and method in {"add", "set"}:
        options = draw(st.sampled_from([{}, {"through_defaults": {"weight": 2}}]))
    others = tuple(draw(st.lists(PLACES, max_size=3)))
    return Related(model, draw(PLACES), manager, method, others, options, draw(ALIASES))


@st.composite
def through_rows(draw):
    owner, manager, _ = draw(st.sampled_from(RELATIONS))
    methods = ["create", "create", "bulk_create", "save", "move", "update", "update_all"]
    methods += ["bulk_update", "delete", "delete_many"]
    if manager != "links":
        # No database tells which rows went in that have neither a key nor unique values; the
        # event says so, and is no row: docs/explanation/what-is-recorded.md.
        methods.append("ignore")
    return Through(
        owner, manager, draw(st.sampled_from(methods)), draw(PLACES), draw(PLACES), draw(PLACES),
        draw(ALIASES),
    )  # fmt: skip


reorders = st.builds(Reorder, PLACES, st.permutations(range(3)).map(tuple), ALIASES)


@st.composite
def fixtures(draw):
    model = draw(MODELS.filter(lambda model: model != "ItemProxy"))
    return Fixture(model, draw(PLACES), draw(values_of(model, most=2)), draw(ALIASES))


kept_parents = st.builds(
    Delete, st.sampled_from(["Car", "Racer", "Amphibian", "Dog"]), PLACES, st.just("keep_parents")
)

# What one transaction writes of drafts, whose saves are folded.
DRAFT = st.just("Draft")
drafts = st.builds(
    Atomic,
    st.lists(
        creates(DRAFT)
        | saves(DRAFT)
        | saves(DRAFT)
        | updates(DRAFT)
        | st.builds(Delete, DRAFT, PLACES)
        | st.builds(Related, DRAFT, PLACES, st.just("tags"), st.just("set"), st.just((0,)))
        | st.builds(
            Savepoint,
            st.lists(saves(DRAFT), min_size=1, max_size=2).map(tuple),
            st.lists(saves(DRAFT), max_size=2).map(tuple),
            st.sampled_from(["commit", "rollback"]),
        ),
        min_size=2,
        max_size=5,
    ).map(tuple),
)

writes = st.one_of(
    kept_parents,
    creates(),
    creates(),
    creates(),
    saves(),
    saves(),
    saves(),
    mutations,
    deletes,
    deletes_of_many(),
    updates(),
    updates(),
    bulk_creates(),
    bulk_updates(),
    related(),
    related(),
    through_rows(),
    through_rows(),
    reorders,
    fixtures(),
)


def _blocks(inner):
    some = st.lists(inner, min_size=1, max_size=4).map(tuple)
    return st.one_of(
        st.builds(
            Atomic, some, st.sampled_from(["commit", "commit", "rollback", "raise"]), ALIASES
        ),
        st.builds(Savepoint, some, some, st.sampled_from(["commit", "rollback"]), ALIASES),
        st.builds(Manual, some, st.sampled_from(["commit", "rollback", "switch"]), ALIASES),
    )


# What is left out lets a failing sequence of ten shrink to a few.
sequences = st.lists(
    st.one_of(
        st.none(),
        writes,
        writes,
        writes,
        _blocks(writes | _blocks(writes)),
        drafts,
    ),
    min_size=10,
    max_size=30,
).map(lambda found: [write for write in found if write is not None])
