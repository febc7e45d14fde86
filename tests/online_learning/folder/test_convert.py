"""A public data set as a folder: the same records, schema and recipe, by one path."""

from __future__ import annotations

from pathlib import Path

import pytest

from online_learning.data import DATASETS
from online_learning.data.dataset import DataSetError
from online_learning.folder.convert import convert
from online_learning.folder.description import FolderError
from online_learning.folder.log import open_folder
from tests.support.synthetic import write_log


def test_the_folder_says_what_the_data_set_said(tmp_path: Path) -> None:
    """Each record once, with all its fields, in order of time; schema and recipe are the data set's."""
    data, path = DATASETS["trivago"], write_log(tmp_path / "log.parquet", users=10)
    made = convert(data, path, tmp_path / "out")
    folder = open_folder(tmp_path / "out")
    records, expected = list(folder.records(path)), list(data.records(path))
    assert sum(made.lines.values()) == len(records)
    assert sorted(records, key=repr) == sorted(expected, key=repr)
    assert [record.ts for record in records] == [record.ts for record in expected]
    assert (folder.schema, folder.recipe, folder.lists, folder.recalled) == (data.schema, data.recipe, True, 0)


@pytest.mark.parametrize("name", ["yoochoose", "movielens-100k", "movielens-1m"])
def test_a_log_without_lists_says_whether_they_are_recalled(tmp_path: Path, name: str) -> None:
    """Its schema, its recipe and how it comes to lists are read back, whatever its files are."""
    from online_learning.folder.convert import _config_text
    from online_learning.folder.description import read_config

    (tmp_path / "liverank.toml").write_text(_config_text(DATASETS[name]), encoding="utf-8")
    found = read_config(tmp_path)
    assert (found.schema, found.recipe) == (DATASETS[name].schema, DATASETS[name].recipe)
    assert found.data.recall == DATASETS[name].recalled


def test_a_folder_is_not_written_over(tmp_path: Path) -> None:
    """Unless it is asked for; and a data set that cannot be read leaves nothing behind."""
    data, path = DATASETS["trivago"], write_log(tmp_path / "log.parquet", users=2)
    with pytest.raises(DataSetError):
        convert(data, tmp_path / "nothing", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    convert(data, path, tmp_path / "out")
    with pytest.raises(FolderError, match="already; give an empty folder, or --force"):
        convert(data, path, tmp_path / "out")
    convert(data, path, tmp_path / "out", force=True)
