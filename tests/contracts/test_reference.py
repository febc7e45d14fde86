"""What the docs say of settings, metrics, commands, topics and records is what there is, and all of it is said."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from liverank.gateway.metrics import GatewayMetrics
from liverank.settings import BESIDE, GROUPS, PREFIX, SECRETS, VARIABLES, Settings
from online_learning.recipe import MODEL_SIZES
from online_learning.trainer.metrics import TrainerMetrics
from ranker.contracts.records import Candidate, Cause, Outcome, RankedItem, Shown
from ranker.contracts.schema import Action, CandidateFeature, ContextField, FeatureSchema, Normalise
from ranker.contracts.topics import ITEM_VECTORS, TOPICS
from ranker.serving.rules import Rules
from streams.telemetry.metrics import Metrics
from tests.support.command import COMMANDS

ROOT = Path(__file__).parents[2]
#: The pages that say how it is used; decisions say how it came to be so.
PAGES = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *ROOT.glob("docs/*.md"))}
DECISIONS = {f"decisions/{path.name}": path.read_text(encoding="utf-8") for path in ROOT.glob("docs/decisions/*.md")}
EVERYTHING = "\n".join((PAGES | DECISIONS).values())
#: Whose keys stand in a table on a page of their own.
OWN_PAGES = {"gateway": "gateway.md", "web": "web.md"}


def test_every_variable_that_is_named_is_one() -> None:
    """A name that ends in a line is the beginning of several."""
    named = {name for name in re.findall(rf"\b{PREFIX}([A-Z_]+)\b", EVERYTHING) if not name.endswith("_")}
    assert not named - {*VARIABLES.values(), *SECRETS, *BESIDE}


def test_every_setting_is_named() -> None:
    """By its variable; those of a page's table by their key. What tables within tables hold, by key too."""
    told = set(re.findall(rf"\b{PREFIX}([A-Z_]+)\b", "\n".join(PAGES.values())))
    missing = [
        (group, key)
        for (group, key), variable in VARIABLES.items()
        if group != "topics" and variable not in told and f"`{key}`" not in PAGES.get(OWN_PAGES.get(group, ""), "")
    ]
    assert not missing + [name for name in SECRETS if name not in told]
    for page, names in (
        ("tuning.md", Rules.__struct_fields__),
        ("data.md", (*FeatureSchema.__struct_fields__, *Action.__struct_fields__, *MODEL_SIZES, *Normalise)),
        ("data.md", (*CandidateFeature.__struct_fields__, *ContextField.__struct_fields__)),
    ):
        assert not [name for name in names if not re.search(rf"\b{re.escape(name)}\b", PAGES[page])]


def number_in(text: str) -> float | None:
    """The number that a default begins with, as docs write one: 30,000, .995, 5e-4, 1 MiB."""
    found = re.match(r"(-?(?:\d[\d,]*)?(?:\.\d+)?(?:e-?\d+)?)( MiB)?(?=$|[\s,:;])", text)
    if found is None or not found[1]:
        return None
    return float(found[1].replace(",", "")) * (1 << 20 if found[2] else 1)


def default_of(group: str, key: str) -> object:
    return getattr(getattr(Settings(), group), key)


def told_defaults() -> Iterator[tuple[str, str, str]]:
    """Group, key and default of each setting of which the docs tell one: after its variable, or in a page's table."""
    for variable, told in re.findall(rf"`{PREFIX}([A-Z_]+)` \(([^)]+)\)", "\n".join(PAGES.values())):
        for (group, key), name in VARIABLES.items():
            if name == variable and group != "topics":
                yield group, key, told
    for group, page in OWN_PAGES.items():
        for line in PAGES[page].splitlines():
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            keys = re.findall(r"`(\w+)`", cells[0])
            if line.startswith("|") and keys and set(keys) <= set(GROUPS[group].__struct_fields__):
                defaults = cells[1 if group == "web" else 2]
                yield from ((group, key, told) for key, told in zip(keys, re.split(r", ", defaults), strict=True))


def test_defaults_are_as_the_docs_say() -> None:
    """Numbers, and the words of a choice."""
    compared = 0
    for group, key, told in told_defaults():
        default = default_of(group, key)
        if isinstance(default, int | float) and not isinstance(default, bool):
            assert number_in(told) == default, f"{key} of [{group}] is {default}, not {told}"
            compared += 1
        elif isinstance(default, str | bool) and default != "":
            assert told == str(default).lower(), f"{key} of [{group}] is {default}, not {told}"
            compared += 1
    assert compared > 50


def metrics() -> dict[str, str]:
    """What the pages of worker, trainer and gateway tell: the name that Prometheus has, and the kind."""
    registries: tuple[CollectorRegistry, ...] = (
        Metrics().registry, TrainerMetrics().registry, GatewayMetrics(lambda: 0).registry,
    )  # fmt: skip
    found = {family.name: family.type for registry in registries for family in registry.collect()}
    return {
        name + ("_total" if kind == "counter" else ""): kind
        for name, kind in found.items()
        if name.startswith("liverank_")
    }


def test_metrics_are_named_as_prometheus_has_them() -> None:
    """Each one that is named is there, and each that is there is named on a page."""
    known = metrics()
    named = set(re.findall(r"\bliverank_[a-z_]+\b", "\n".join(PAGES.values())))
    assert not {name for name in named - set(known) if not name.endswith("_")}
    assert not set(known) - named


_FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def calls(page: str) -> Iterator[list[str]]:
    """The words after `liverank`, wherever a page calls it: in code of a line or in a block of it."""
    lines = re.findall(r"`([^`\n]+(?:\n[^`\n]+)?)`", _FENCED.sub("", page))
    for language, block in _FENCED.findall(page):
        lines += [] if language == "mermaid" else block.replace("\\\n", " ").splitlines()
    for line in lines:
        for call in re.findall(r"(?:^|[\s(=])liverank +([a-z-][^#|;&>]*)", line):
            yield shlex.split(call.replace("'", "").replace('"', ""))


@pytest.mark.parametrize("name", PAGES | DECISIONS)
def test_what_is_called_is_a_command_with_these_options(name: str) -> None:
    """`liverank model promote`, with options that it has."""
    for words in calls((PAGES | DECISIONS)[name]):
        given = [word for word in words if not word.startswith("--")]
        found = next((names for names in COMMANDS if list(names) == given[: len(names)]), None)
        if found is None:
            groups = {names[: len(given)] for names in COMMANDS}
            assert tuple(given) in groups or words == ["--help"], f"there is no liverank {' '.join(words)}"
            continue
        parameters = COMMANDS[found].params
        options = {option for one in parameters for option in (*one.opts, *one.secondary_opts)}
        wrong = [word for word in words if word.startswith("--") and word.partition("=")[0] not in options]
        assert not wrong, f"liverank {' '.join(found)} has no {wrong}"


def test_every_command_is_told() -> None:
    """Somewhere in the docs, as it is called."""
    assert not [names for names in COMMANDS if f"liverank {' '.join(names)}" not in EVERYTHING]


def test_every_topic_is_told_as_it_is() -> None:
    """Its key, who writes it, whether it is compacted and whether it has one partition."""
    rows = {
        name: cells
        for line in PAGES["topics.md"].splitlines()
        if len(cells := [cell.strip() for cell in line.strip("|").split("|")]) == 4
        for name in re.findall(r"`([\w-]+)`", cells[0])
    }
    for topic in TOPICS.values():
        _, key, kind, _ = rows[topic.name]
        assert key.split()[0] == topic.key.split()[0]
        assert kind.split(",")[0] == topic.direction
        assert ("compacted" in kind, "1 partition" in kind) == (topic.compacted, topic.single)


def test_every_field_of_a_record_is_told() -> None:
    """In an example or in words; those of vectors are nobody else's, those of reasons stand with what they mean."""
    records = {topic.record for topic in TOPICS.values() if topic.name != ITEM_VECTORS}
    for record in (*records, Candidate, Cause, Outcome, RankedItem, Shown):
        told = [field for field in record.__struct_fields__ if not re.search(rf'["`]{field}["`]', PAGES["topics.md"])]
        assert not told, f"docs/topics.md says nothing of {told} of {record.__name__}"


def reasons() -> set[str]:
    """The codes with which inputs are refused, where workers look at them."""
    looked_at = [*(ROOT / "streams").rglob("*.py"), *(ROOT / "ranker/mapping").glob("*.py")]
    looked_at += [ROOT / "ranker/contracts/decoding.py", ROOT / "ranker/contracts/schema.py"]
    calls_of = (
        node
        for path in looked_at
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "InvalidRecord"
    )
    return {call.args[0].value for call in calls_of if call.args and isinstance(call.args[0], ast.Constant)}


def test_every_reason_of_a_dead_letter_is_told() -> None:
    """With what it means."""
    _, _, table = PAGES["topics.md"].partition("| reason | what it means |")
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    told = {code for row in rows for code in re.findall(r"`([a-z-]+)`", row)}
    assert not reasons() - told
    assert not told - reasons() - {"empty-list", "too-many-items"}, "which two are chosen between in a variable"
