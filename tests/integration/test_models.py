"""What serves and what never does: swaps under load, bad bundles, canaries, deltas, no registry; on Apache Kafka."""

from __future__ import annotations

import itertools
import re
import shutil
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pytest
from confluent_kafka.admin import AdminClient

from liverank.faults.load.sender import Sender
from liverank.faults.load.workload import Workload
from liverank.settings import Settings, changed
from online_learning.learning.learner import shown_statistics
from ranker.contracts.clock import now_ms
from ranker.contracts.ids import hash_id
from ranker.contracts.records import Example, ModelDelta, ModelUpdate, Ranking
from ranker.items.catalog import Catalog
from ranker.items.tables import pack_row
from ranker.registry.bundle import fetch_bundle
from ranker.serving.model import load_model
from streams.kafka.checks import check_topics
from streams.kafka.connection import partition_of
from tests.support.bundles import BAD, announce, flip, publish
from tests.support.installation import Installation, Worker, read_topic
from tests.support.waiting import eventually

LIST = [f"item-{number}" for number in range(10)]


@pytest.fixture(scope="module")
def installation(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A worker that serves the first of the versions to come."""
    folder = tmp_path_factory.mktemp("installation")
    settings = changed(
        Settings(),
        brokers=kafka,
        registry=str(folder / "registry"),
        app="models",
        model="swapped",
        metrics_port=0,
        session_timeout_s=6.0,
        attribution_ms=3000,
    )
    made = Installation(settings, folder)
    made.create_topics()
    publish(made)
    made.worker("worker").start().ready()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def worker(installation: Installation) -> Worker:
    """The worker."""
    return installation.workers[0]


def metric(worker: Worker, name: str) -> float:
    """A number of the worker's page; 0 where it is not there."""
    page = re.findall(r"metrics at (\S+)", worker.log)[-1]
    text = urllib.request.urlopen(page, timeout=10).read().decode()  # noqa: S310 (a page of our own)
    found = [line.rsplit(" ", 1)[1] for line in text.splitlines() if line.startswith(name)]
    return sum(float(value) for value in found)


def serving(worker: Worker) -> str:
    """The version that serves those who are no canary's."""
    page = re.findall(r"metrics at (\S+)", worker.log)[-1]
    text = urllib.request.urlopen(page, timeout=10).read().decode()  # noqa: S310
    (version,) = re.findall(r'liverank_model_info\{version="([^"]+)"\}', text)
    return str(version)


def serve(installation: Installation, version: str) -> None:
    """Promote a version and wait until it serves."""
    announce(installation, version)
    eventually(f"{version} serves", lambda: serving(installation.workers[0]) == version, 30)


def show_lists(installation: Installation, users: list[str], ts: int | None = None) -> dict[str, Ranking]:
    """Show the same list to users who have done nothing yet; what they get to see."""
    producer = installation.producer()
    for user in users:
        listed = {"request_id": user, "user_id": user, "items": [{"item_id": item} for item in LIST], "ts": ts}
        producer.produce("candidates", msgspec.json.encode(listed), user)
    producer.flush(30)

    def seen() -> dict[str, Ranking] | None:
        found = {ranking.user_id: ranking for ranking in installation.rankings() if ranking.user_id in set(users)}
        return found if len(found) == len(users) else None

    shown: dict[str, Ranking] = eventually("everyone has a ranking", seen)
    return shown


def click(installation: Installation, users: list[str], item: str, ts: int | None = None) -> None:
    """Each of them clicks one item."""
    producer = installation.producer()
    for user in users:
        producer.produce("clicks", msgspec.json.encode({"user_id": user, "item_id": item, "ts": ts}), user)
    producer.flush(30)


@pytest.mark.parametrize("spoil", BAD, ids=lambda spoil: spoil.__name__)
def test_a_bad_bundle_never_serves(installation: Installation, worker: Worker, spoil) -> None:
    """The old model goes on, the log says why, the metric counts the reason."""
    before = serving(worker)
    version, reason = spoil(installation)
    if spoil.__name__ != "tampered":
        announce(installation, version)
    eventually("it is refused", lambda: f"{version} does not serve ({reason})" in worker.log, 30)
    assert metric(worker, f'liverank_model_rejected_total{{reason="{reason}"}}') >= 1
    assert serving(worker) == before
    (ranking,) = show_lists(installation, [f"after-{version}"]).values()
    assert ranking.model == before
    serve(installation, before)  # the topic now names what serves


def test_a_canary_that_does_not_load_ends_itself(installation: Installation, worker: Worker) -> None:
    """It is rolled back by the worker that refused it: nobody waits for it, and the next one may begin."""
    before = serving(worker)
    version, reason = BAD[0](installation)
    announce(installation, version, "canary", share=0.5)
    update = decided(installation, version)
    assert (update.stage, update.previous) == ("rolled-back", before)
    assert f"it does not serve: {reason}" in (update.reason or "")
    assert serving(worker) == before


def test_swaps_under_load_lose_and_repeat_nothing(installation: Installation, worker: Worker) -> None:
    """Every user's last ranking covers all their inputs, no ranking comes twice, and all versions have ranked."""
    versions = [publish(installation, seed=seed) for seed in (1, 2, 3)]
    running = Sender(installation.settings.broker, Workload("swaps", seed=0, items=False), 100.0)
    running.open()
    running.start()
    for version in versions:
        serve(installation, version)
        time.sleep(0.5)  # for it to rank something
    running.finish()
    installation.all_handled()
    rankings = [ranking for ranking in installation.rankings() if ranking.user_id.startswith("swaps")]
    named = Counter(
        (ranking.user_id, ranking.request_id, tuple(sorted(ranking.applied.items()))) for ranking in rankings
    )
    assert [name for name, count in named.items() if count > 1] == []
    assert set(versions) <= {ranking.model for ranking in rankings}
    last = {ranking.user_id: ranking for ranking in rankings}  # a user's rankings come in order
    rows = installation.folded_rows()
    listed = {key[1].decode(): row for key, row in rows.items() if row.candidates and key[1].startswith(b"swaps")}
    wrong = [user for user, row in listed.items() if last[user].applied != row.applied]
    assert wrong == []


def example_of(installation: Installation, user: str) -> Example:
    """The first example of a user."""

    def found() -> Example | None:
        made = (msgspec.json.decode(message.value(), type=Example) for message in installation.read("examples"))
        return next((example for example in made if example.user_id == user), None)

    example: Example = eventually("there is an example", found)
    return example


def decided(installation: Installation, version: str, meanwhile: Callable[[], object] = lambda: None) -> ModelUpdate:
    """What was decided about a canary, while something else goes on."""

    def found() -> ModelUpdate | None:
        meanwhile()
        control = read_topic(installation.settings.broker.addresses, "model-updates", 1)
        updates = [msgspec.json.decode(m.value(), type=ModelUpdate) for m in control]
        return next((update for update in updates if update.version == version and update.measured), None)

    update: ModelUpdate = eventually("the canary is decided about", found, 90)
    return update


def test_canaries_are_judged_by_clicks(installation: Installation, worker: Worker) -> None:
    """One that ranks the wrong way round is rolled back by itself, and one that sets that right is promoted, once the
    time of the lists that were clicked is over.
    """
    good, bad = publish(installation, seed=5), publish(installation, seed=5, change=flip)
    better = publish(installation, seed=5)
    serve(installation, good)
    for canary, share, promoted in ((bad, 0.5, False), (better, 0.5, True)):
        if promoted:
            serve(installation, bad)
        announce(installation, canary, "canary", share=share)
        eventually("the canary serves its share", lambda name=canary: f"{name} serves 50%" in worker.log, 30)
        users, now = [f"{canary}-{number}" for number in range(240)], now_ms()
        shown = show_lists(installation, users, now)
        arms = Counter(ranking.model for ranking in shown.values())
        assert set(arms) == {canary, serving(worker)}
        assert min(arms.values()) > 60
        wanted = next(r.items[0].item_id for r in shown.values() if (r.model == canary) == promoted)
        click(installation, users, wanted, now + 1)
        update = decided(installation, canary, partial(others, installation, wanted))
        assert (update.stage, update.previous) == (("promoted", bad) if promoted else ("rolled-back", good))
        expected = canary if promoted else good
        eventually("all workers went along", lambda version=expected: serving(worker) == version, 30)
        after = show_lists(installation, [f"after-{canary}-{number}" for number in range(20)])
        assert {ranking.model for ranking in after.values()} == {expected}


def others(installation: Installation, wanted: str) -> None:
    """Some more people look at the list and click, so that time goes on in every partition."""
    users, now = [f"other-{next(_numbers)}" for _ in range(12)], now_ms()
    show_lists(installation, users, now)
    click(installation, users, wanted, now + 1)


_numbers = itertools.count()


def test_a_canary_that_people_leave_is_rolled_back(installation: Installation, worker: Worker) -> None:
    """It ranks as what serves does, so what is clicked stands as high; but half of its lists draw nothing."""
    good, canary = publish(installation, seed=5), publish(installation, seed=5)
    serve(installation, good)
    announce(installation, canary, "canary", share=0.5)
    eventually("the canary serves its share", lambda: f"{canary} serves 50%" in worker.log, 30)
    now = now_ms()
    shown = show_lists(installation, [f"left-{number}" for number in range(240)], now)
    wanted = next(iter(shown.values())).items[0].item_id
    leaving = [user for user, ranking in shown.items() if ranking.model == canary][::2]
    click(installation, [user for user in shown if user not in set(leaving)], wanted, now + 1)
    update = decided(installation, canary, partial(others, installation, wanted))
    assert (update.stage, update.previous) == ("rolled-back", good)
    assert "reciprocal rank of clicks 1.0000" in (update.reason or "")
    eventually("what served goes on alone", lambda: f"{canary} is no canary any more" in worker.log, 30)


def parts_of(installation: Installation) -> list[set[int]]:
    """The partitions of `clicks` that each worker has; nothing before all of them are given out."""
    admin = AdminClient({"bootstrap.servers": installation.settings.broker.addresses})
    app = installation.settings.broker.app
    members = admin.describe_consumer_groups([app])[app].result(30).members
    parts = [{tp.partition for tp in m.assignment.topic_partitions if tp.topic == "clicks"} for m in members]
    return parts if sum(len(part) for part in parts) == installation.settings.broker.partitions else []


def test_of_several_workers_decisions_the_first_counts(installation: Installation, worker: Worker) -> None:
    """One of two workers sees the canary win where the other sees it lose: both go along with what is first on the
    topic, also when the opposite follows."""
    good, canary = publish(installation, seed=5), publish(installation, seed=5, change=flip)
    serve(installation, good)
    second = installation.worker("second").start().ready()
    eventually("both have partitions", lambda: len([part for part in parts_of(installation) if part]) == 2, 30)
    announce(installation, canary, "canary", share=0.5)
    for one in (worker, second):
        eventually("the canary serves its share", lambda one=one: f"{canary} serves 50%" in one.log, 30)
    ours = next(part for part in parts_of(installation) if part)
    wanted: dict[str, list[str]] = {}
    for user, ranking in show_lists(installation, [f"both-{number}" for number in range(500)]).items():
        wins = partition_of(user.encode(), installation.settings.broker.partitions) in ours
        liked = ranking.items[0 if (ranking.model == canary) == wins else -1].item_id
        wanted.setdefault(liked, []).append(user)
    for item, users in wanted.items():
        click(installation, users, item)
    first = decided(installation, canary)
    opposite = "promoted" if first.stage == "rolled-back" else "rolled-back"
    announce(installation, canary, opposite, measured=True, previous=good)
    expected = canary if first.stage == "promoted" else good
    for one in (worker, second):
        eventually("it goes along", lambda one=one: serving(one) == expected, 30)
        eventually("and is through", lambda one=one: f"{canary} is no canary any more" in one.log or expected == canary)
    after = show_lists(installation, [f"agreed-{number}" for number in range(40)])
    assert {ranking.model for ranking in after.values()} == {expected}
    second.stop()


def test_deltas_apply_in_place_in_order_and_only_onto_their_base(installation: Installation, worker: Worker) -> None:
    """Rankings show the new row; an older delta, or one for another version, changes nothing and is counted."""
    version = serving(worker)
    registry = msgspec.structs.replace(installation.settings.registry, model="swapped")
    model = load_model(
        fetch_bundle(registry, version, installation.folder / "checked"),
        Catalog(),
        installation.settings.worker.serving,
    )
    width, neighbours = model.tables.ids.shape[1], model.tables.neighbours.shape[1]
    numbers = itertools.count(now_ms())

    def send(value: float, base: str, sequence: int) -> None:
        row = pack_row(np.full(width, value), np.zeros(3), np.zeros(neighbours, np.int64), np.zeros(neighbours))
        delta = ModelDelta(
            model="swapped", base=base, sequence=sequence, learned_until=sequence, rows={str(hash_id(LIST[3])): row}
        )
        installation.send("model-deltas", "swapped", msgspec.json.encode(delta))

    def score(name: str) -> float:
        (ranking,) = show_lists(installation, [name]).values()
        assert ranking.model == version
        return next(item.score for item in ranking.items if item.item_id == LIST[3])

    before, first = score("delta-0"), next(numbers)
    known = model.tables.statistics[model.catalog.index_of[hash_id(LIST[3])]].tolist()
    send(2.0, version, first)
    eventually("the delta is applied", lambda: metric(worker, 'liverank_model_deltas_total{outcome="applied"}') == 1)
    click(installation, ["delta-0"], LIST[3])
    shown = shown_statistics(example_of(installation, "delta-0"))[3].tolist()
    assert shown == known != [0.0] * 3, "what the ranking saw, not what the delta brought since"
    changed = score("delta-1")
    assert changed != pytest.approx(before, abs=1e-4)
    send(-2.0, version, first - 1)
    send(-2.0, "20000101T000000000-000000", next(numbers))
    for outcome in ("out-of-order", "other-version"):
        name = f'liverank_model_deltas_total{{outcome="{outcome}"}}'
        eventually(outcome, lambda name=name: metric(worker, name) >= 1)
    assert score("delta-2") == pytest.approx(changed, abs=1e-6)


def test_a_worker_starts_from_its_copy_while_the_registry_is_gone(installation: Installation, worker: Worker) -> None:
    """With a line on the log; what the control topic names is what serves, with its deltas."""
    version = serving(worker)
    worker.stop()
    registry = Path(installation.settings.registry.address)
    shutil.move(registry, registry.with_name("gone"))
    try:
        worker.start().ready()
        assert serving(worker) == version
        assert "gives no bundle; there are copies here" in worker.log
        (ranking,) = show_lists(installation, ["without-registry"]).values()
        assert ranking.model == version
    finally:
        shutil.move(registry.with_name("gone"), registry)


def test_nothing_went_wrong_besides(installation: Installation, worker: Worker) -> None:
    """No dead letter, and no traceback on the log."""
    assert check_topics(installation.settings.broker) == []
    assert installation.dead_letters() == []
    assert "Traceback" not in worker.log
