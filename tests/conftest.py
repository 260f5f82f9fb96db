"""Fixtures of the whole suite."""

import json
from importlib.resources import files

import pytest
from jsonschema import Draft202012Validator

from django_signal_audit import pipeline
from django_signal_audit.sinks import counters, routing

SCHEMA = json.loads(files("django_signal_audit").joinpath("schema/event.v1.json").read_text())
VALIDATED_PER_TEST = 200


@pytest.fixture(autouse=True)
def _fresh_sinks():
    """Every test starts with closed sinks and counters at zero."""
    routing.close_sinks()
    counters.reset()
    yield
    routing.close_sinks()
    counters.reset()


@pytest.fixture(autouse=True)
def _events_match_the_schema():
    """Every event that any test makes is of the published shape."""
    validator = Draft202012Validator(SCHEMA)
    seen = []

    def keep(event):
        if len(seen) < VALIDATED_PER_TEST:
            seen.append(event.to_dict())

    with pipeline.observe(keep):
        yield
    for event in seen:
        validator.validate(event)
