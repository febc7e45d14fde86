"""Readers of public data sets, one file each: the owners' files in, the records of the topics out."""

from __future__ import annotations

from online_learning.datasets.dataset import DataSet, DataSetError, Record
from online_learning.datasets.trivago import TRIVAGO

#: name on the command line -> data set.
DATASETS: dict[str, DataSet] = {data.name: data for data in (TRIVAGO,)}

__all__ = ["DATASETS", "DataSet", "DataSetError", "Record"]
