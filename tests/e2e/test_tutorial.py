"""The commands of docs/tutorial.md, as a newcomer runs them."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_PLACES = re.compile(r"^coffee, (.*): ([\d, ]+)$", re.MULTILINE)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_from_the_shops_files_to_a_live_list() -> None:
    """Every command succeeds; the model is better than the shown order; clicks on coffee bring coffee up."""
    made = subprocess.run(["make", "tutorial"], cwd=_ROOT, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout[-3000:] + made.stderr[-3000:]
    rankers = json.loads((_ROOT / ".liverank/tutorial/evaluation.json").read_text())["rankers"]
    assert rankers["liverank"]["mrr"]["low"] > rankers["shown"]["mrr"]["high"]
    places = {when: [int(place) for place in found.split(",")] for when, found in _PLACES.findall(made.stdout)}
    assert list(places)[:2] == ["as shown", "before any click"]
    assert len(places) == 4, made.stdout
    assert sum(list(places.values())[-1]) < sum(places["before any click"])
    assert "all ended" in (_ROOT / ".liverank/tutorial/up.log").read_text()
