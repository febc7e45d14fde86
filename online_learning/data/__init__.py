"""Readers of public data sets, one file each: the owners' files in, the records of the topics out."""

from __future__ import annotations

from online_learning.data.dataset import DataSet, DataSetError, LogRecord
from online_learning.data.movielens import MOVIELENS_1M, MOVIELENS_100K
from online_learning.data.trivago import TRIVAGO
from online_learning.data.yoochoose import YOOCHOOSE

#: name on the command line -> data set.
DATASETS: dict[str, DataSet] = {data.name: data for data in (TRIVAGO, YOOCHOOSE, MOVIELENS_100K, MOVIELENS_1M)}

__all__ = ["DATASETS", "DataSet", "DataSetError", "LogRecord"]
