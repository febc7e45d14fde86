"""Readers of public data sets, one file each: the owners' files in, the records of the topics out."""

from __future__ import annotations

from online_learning.datasets.dataset import DataSet, DataSetError, Record
from online_learning.datasets.movielens import MOVIELENS_1M, MOVIELENS_100K
from online_learning.datasets.trivago import TRIVAGO
from online_learning.datasets.yoochoose import YOOCHOOSE

#: name on the command line -> data set.
DATASETS: dict[str, DataSet] = {data.name: data for data in (TRIVAGO, YOOCHOOSE, MOVIELENS_100K, MOVIELENS_1M)}

__all__ = ["DATASETS", "DataSet", "DataSetError", "Record"]
