"""`[topics]`: what is called how, and each mistake in a sentence."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from ranker.contracts.errors import MappingError
from ranker.contracts.topics import TOPICS
from ranker.mapping.sources import Source
from ranker.mapping.topic_map import TopicMap, topic_map


def test_without_a_map_every_topic_is_called_as_here() -> None:
    """And bytes pass as they are."""
    none = TopicMap()
    assert all(none.called(topic) == none.own(topic) == topic for topic in TOPICS)
    assert none.translated("clicks", b"{}") == b"{}"


def test_a_prefix_leads_every_name_but_those_that_are_given() -> None:
    """Internal and control topics too; a name that is given is whole; what is none of ours stays."""
    found = topic_map({"prefix": "shop-a.", "clicks": "web.clicks.v2", "items": {"name": "catalogue"}}, "x")
    assert {topic: found.called(topic) for topic in ("clicks", "items", "views", "examples", "model-updates")} == {
        "clicks": "web.clicks.v2", "items": "catalogue", "views": "shop-a.views", "examples": "shop-a.examples",
        "model-updates": "shop-a.model-updates",
    }  # fmt: skip
    assert all(found.own(found.called(topic)) == topic for topic in TOPICS)
    assert found.called("shop-a.liverank-rows-changelog") == "shop-a.liverank-rows-changelog"


def test_fields_are_told_as_for_files() -> None:
    """A name, a table with a map or a unit, a value; several of a group by its name, or the whole group."""
    fields = {
        "item_id": "sku",
        "action": {"column": "type", "map": {"addtocart": "cart"}},
        "ts": {"column": "at", "time": "s"},
        "context": "page",
    }
    of_lists = {"features": ["price"], "context": {"device": "ua"}, "score": "relevance"}
    found = topic_map({"interactions": {"fields": fields}, "candidates": {"fields": of_lists}}, "x")
    assert found.fields["interactions"]["action"] == Source(column="type", map={"addtocart": "cart"})
    assert found.fields["interactions"]["context"] == Source(column="page")
    assert found.fields["candidates"] == {
        "features.price": Source(column="price"), "context.device": Source(column="ua"),
        "score": Source(column="relevance"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"clickz": "x"}, r"nobody reads 'clickz' of \[topics\]; the nearest is 'clicks'"),
        ({"clicks": ["a", "b"]}, r"clicks of \[topics\] names several topics; give one.*interactions"),
        ({"clicks": 7}, "clicks of .topics. is 7; give the topic's name"),
        ({"clicks": "web clicks"}, "is called 'web clicks'; a topic's name has 1 to 249 letters"),
        ({"clicks": ""}, "is called ''; a topic's name has 1 to 249"),
        ({"clicks": ".."}, "is not '.' or '..'"),
        ({"clicks": "c" * 250}, "1 to 249 letters"),
        ({"clicks": "__consumer_offsets"}, "Kafka's own"),
        ({"prefix": "shop a."}, "prefix of .topics. is 'shop a.'; it may have"),
        ({"prefix": 3}, "prefix of .topics. is 3"),
        ({"clicks": "web", "views": "web"}, r"clicks and views of \[topics\] are both called 'web'.*interactions"),
        ({"clicks": "views"}, r"clicks and views of \[topics\] are both called 'views'"),
        ({"clicks": "examples"}, "called 'examples', which is the topic examples that liverank keeps for itself"),
        ({"prefix": "a.", "users": "a.model-updates"}, "called 'a.model-updates', which is the topic model-updates"),
        ({"clicks": {"nam": "x"}}, r"nobody reads 'nam' of \[topics.clicks\]; the nearest is 'name'"),
        ({"clicks": {"fields": "sku"}}, r"must be a table, \[topics.clicks.fields\]"),
        ({"clicks": {"fields": {"itm_id": "sku"}}}, r"'itm_id' of \[topics.clicks.fields\]; the nearest is 'item_id'"),
        ({"clicks": {"fields": {"item_id": {"colum": "sku"}}}}, "give a column's name"),
        ({"clicks": {"fields": {"item_id": {"column": "sku", "time": "s"}}}}, "item_id of .* is no time"),
        ({"rankings": {"fields": {"user_id": "uid"}}}, "of a topic that liverank writes; those of clicks, views"),
        ({"examples": {"fields": {"user_id": "uid"}}}, "that liverank keeps for itself"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(table: dict[str, Any], says: str) -> None:
    """In one line that names the file, the key, and what would be right."""
    with pytest.raises(MappingError, match=says) as refused:
        topic_map(table, "liverank.toml")
    assert str(refused.value).startswith("liverank.toml: ")
    assert "\n" not in str(refused.value)


def test_what_the_docs_show_is_taken() -> None:
    """The example of docs/topics.md, as it stands there."""
    text = (Path(__file__).parents[3] / "docs/topics.md").read_text(encoding="utf-8")
    shown = text.partition("## Topics that already run")[2].partition("```toml\n")[2].partition("```")[0]
    found = topic_map(tomllib.loads(shown)["topics"], "docs/topics.md")
    assert found.called("candidates") == "search.results"
    assert found.called("examples") == "shop-a.examples"
    assert set(found.fields) == {"interactions", "candidates"}
