"""What `topics check` says of the newest records of an input."""

from __future__ import annotations

from liverank.operate.sampling import Sample, told


def sample(records: int, refused: dict[str, int], elsewhere: int = 0) -> Sample:
    """A sample of which so many are refused, by reason."""
    first = {reason: f"web.clicks-0:{number}: why" for number, reason in enumerate(refused)}
    return Sample(topic="web.clicks", records=records, refused=refused, first=first, elsewhere=elsewhere)


def test_what_fits_is_not_told() -> None:
    """Nor is an empty topic."""
    assert list(told(sample(20, {}))) == list(told(sample(0, {}))) == []


def test_some_that_do_not_fit_are_a_warning_and_all_are_an_error() -> None:
    """With their share, the most frequent reasons and the first record of each."""
    (some,) = told(sample(20, {"key-mismatch": 4, "invalid": 1}))
    assert not some.error
    assert "of the newest 20 records of web.clicks 5 do not fit (25%)" in some.text
    assert "4 key-mismatch (web.clicks-0:0: why); 1 invalid (web.clicks-0:1: why)" in some.text
    (every,) = told(sample(3, {"missing-key": 3}))
    assert every.error


def test_keys_that_lie_elsewhere_are_a_warning() -> None:
    """As where producers of librdkafka keep its own partitioner."""
    (found,) = told(sample(20, {}, elsewhere=15))
    assert not found.error
    assert "15 lie elsewhere than Kafka's default partitioner (murmur2) puts their keys" in found.text
