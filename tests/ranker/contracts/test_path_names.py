"""A name that becomes part of a path leads nowhere else."""

from __future__ import annotations

import msgspec
import pytest

from ranker.contracts.errors import BundleError
from ranker.contracts.path_names import path_name
from ranker.contracts.records import ModelDelta, ModelUpdate

LEADING_OUT = ["..", ".", "", "../up", "a/b", "a\\b", "/etc", ".hidden", "a\n", "a\x00", "a b", "é", "a" * 129, "~"]


@pytest.mark.parametrize("name", LEADING_OUT)
def test_a_name_that_leads_out_is_refused_everywhere(name: str) -> None:
    """Where it is asked for, and in every field of a control record that names something on disk."""
    with pytest.raises(BundleError, match="names no version"):
        path_name(name, "version")
    update = {"model": "m", "version": "v", "sha256": "0", "previous": "p"}
    delta = {"model": "m", "base": "v", "sequence": 1, "learned_until": 1, "rows": {}}
    for record, fields, given in (
        (ModelUpdate, ("model", "version", "previous"), update),
        (ModelDelta, ("model", "base"), delta),
    ):
        for field in fields:
            with pytest.raises(msgspec.ValidationError, match=field):
                msgspec.json.decode(msgspec.json.encode({**given, field: name}), type=record)


@pytest.mark.parametrize("name", ["default", "20261128T014943286-de0f3a", "v1.2_b-3", "a..b", "A" * 128])
def test_a_plain_name_is_given_back(name: str) -> None:
    """Versions as they are made, and whatever a person is likely to call one."""
    assert path_name(name, "version") == name
