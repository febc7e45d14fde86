"""The pages that worker and trainer show to Prometheus, read back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from prometheus_client.parser import text_string_to_metric_families


def samples(page: str, name: str) -> Iterable[tuple[dict[str, Any], float]]:
    """Labels and values of one metric of a page."""
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if sample.name == name:
                yield sample.labels, sample.value
