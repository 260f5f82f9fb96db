"""Forked at any moment: no event twice, none of the parent's in a child, nothing waits for ever."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections import Counter

import pytest

from tests.running import SCRIPTS, database_of_a_script


@pytest.fixture
def forks(tmp_path, transactional_db):
    """What the program has found, and what its sinks hold."""
    (tmp_path / "state").mkdir(mode=0o700)
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", str(SCRIPTS / "forks.py"), tmp_path],
        env={**os.environ, "SCRIPT_DATABASE": json.dumps(database_of_a_script(tmp_path))},
        capture_output=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()[-4000:]
    answer = json.loads((tmp_path / "answer.json").read_text())
    rotated = rotated_once(tmp_path / "audit.jsonl")
    assert rotated
    answer["file"] = [
        event
        for path in (*rotated, tmp_path / "audit.jsonl")
        for event in lines(
            gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        )
    ]
    answer["stdout"] = lines(done.stdout)
    answer["stderr"] = done.stderr.decode()
    return answer


def rotated_once(path):
    """The rotated files, each by one of its names.

    A child that ends by ``os._exit`` amid a rotation or a compression leaves two, for the next one
    to tidy up; what is in them must be the same.
    """
    names = set(path.parent.glob(f"{path.name}.*"))
    found = []
    for name in sorted(names):
        compressed = name.with_name(f"{name.name}.gz")
        if name.suffix in {".part", ".new"} or name.samefile(path):
            continue
        if compressed in names:
            assert gzip.decompress(compressed.read_bytes()) == name.read_bytes()
            continue
        found.append(name)
    return found


def lines(content):
    return [json.loads(line) for line in content.splitlines()]


def once(found):
    return [one for one, count in Counter(found).items() if count > 1]


def test_forked_at_any_moment_nothing_is_recorded_twice_or_waits_for_ever(forks):
    for case, found in forks["cases"].items():
        assert set(found["children"]) == {0}, f"{case}: {forks['stderr'][-3000:]}"
        # Closing what was inherited takes the parent's session or journal away from it: such is
        # Django with every driver, audited or not. The trail must be true all the same.
        assert "error" not in found or "closed" in case, f"{case}: {found}"

    records = [(event, text) for _, event, text, _ in forks["records"]]
    assert once(records) == [], "recorded twice"
    created = [text for event, text in records if event == "model.create"]
    assert sorted(created) == sorted(forks["rows"])
    assert not any("uncommitted" in text or "killed-with-it" in text for _, text in records)

    acts = {text: rolled_back for _, event, text, rolled_back in forks["records"] if "act" in event}
    wanted = {"import-child-act", "import-parent-act", "held-child-anew-act", "amid-11-act"}
    assert wanted <= acts.keys()
    committed = dict.fromkeys(forks["rows"])
    for tag in forks["children"]:
        for shape in ("", "-spill", "-savepoint", "-spill-savepoint"):
            for fails in ("", "-fails"):
                name = f"{tag}{shape}{fails}"
                # Whatever became of the change, the parent's custom events are there.
                assert acts[f"{name}-pending-act"] == (f"{name}-pending" not in committed), name
                assert acts[f"{name}-last-act"] == (f"{name}-last" not in committed), name
                assert (f"{name}-pending" in committed) <= (not fails)

    for sink in ("file", "stdout"):
        shown = [one for one in forks[sink] if one["event"] in ("model.create", "test.act")]
        assert once(event["id"] for event in shown) == []
        texts = [event["object_repr"] or event["message"] for event in shown]
        assert once(texts) == [], f"twice in {sink}"
        told = {text for _, text in records}
        assert set(texts) <= told, sink
        # Of a COMMIT that failed only the database knows what became of its changes.
        unknown = [c.split(", ")[-1] for c, found in forks["cases"].items() if "error" in found]
        missing = {text for text in told - set(texts) if not text.startswith(tuple(unknown))}
        assert missing == set(), sink
