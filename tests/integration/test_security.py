"""A broker that asks who comes: every process of ours over TLS, each with its own user and no more than its rights."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from secrets import token_urlsafe

import msgspec
import pytest
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from typer.testing import CliRunner

from liverank.cli.main import app
from liverank.settings import Settings, changed, environment_of
from online_learning.trainer.process import run_trainer
from ranker.contracts.records import Ranking
from ranker.registry.signatures import new_key_pair
from streams.access.preflight import BrokerRefusal, check_reached
from streams.access.rights import ROLES, TRAINER, AccessError, check_access, rights_of
from streams.kafka import connection
from streams.kafka.outbox import SendError
from streams.kafka.transactions import TransactionalOutbox
from tests.support import stream
from tests.support.authority import Authority
from tests.support.installation import Installation, Worker
from tests.support.secured import Secured, secured_kafka
from tests.support.tiny import tiny_bundle
from tests.support.trainer_process import Process
from tests.support.waiting import eventually

USERS = [f"user-{number}" for number in range(24)]


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """The broker, with what `liverank topics acls` prints, and topics that the operator made."""
    with secured_kafka(tmp_path_factory.mktemp("secured")) as made:
        made.grant(made.settings("operator"))
        assert "clicks" in liverank(made, "operator", "topics", "create")
        yield made


@dataclass
class Loop:
    """Two workers, one of which signs in by its certificate, and a trainer; every bundle is signed."""

    secured: Secured
    workers: list[Worker]
    trainer: Process
    first: str
    secrets: list[str]
    folder: Path

    def settings(self, role: str, **more: object) -> Settings:
        """Of this installation."""
        return self.secured.settings(role, **{**self.common, **more})

    common: dict[str, object]


@pytest.fixture(scope="module")
def loop(secured: Secured, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    """The whole of it, serving."""
    folder, (private, public) = tmp_path_factory.mktemp("loop"), new_key_pair()
    common = {
        "registry": folder / "registry", "metrics_port": -1, "trainer_metrics_port": -1, "provider": "cpu",
        "trainer_data": folder / "trainer", "bundle_s": 2.0, "gate_least": 0, "gate_margin": 9.0, "train_ms": 100,
        "require_signatures": True, "public_keys": f"trainer={public}", "ready_file": folder / "trainer-ready",
    }  # fmt: skip
    password = token_urlsafe(18)
    certificate = secured.authority.signed("worker", locked_by=password)
    secured.allow(*(line.replace("User:worker", "User:CN=worker") for line in acl_lines(secured, "worker")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIVERANK_SSL_KEY_PASSWORD", password)
        installation = Installation(secured.settings("worker", **common), folder)
        with secured.as_user("worker"):
            patch.setenv("LIVERANK_SIGNING_KEY", private)
            first = tiny_bundle(folder / "registry", stream.SCHEMA)
            patch.delenv("LIVERANK_SIGNING_KEY")
            by_password = installation.worker("by-password").start()
            by_certificate = installation.worker(
                "by-certificate", brokers=secured.mutual, security_protocol="SSL", sasl_username="",
                ssl_certfile=certificate,
            ).start()  # fmt: skip
        with secured.as_user("trainer"):
            patch.setenv("LIVERANK_SIGNING_KEY", private)
            trainer = Process(secured.settings("trainer", **common), folder)
            patch.delenv("LIVERANK_SIGNING_KEY")
        try:
            for worker in (by_password, by_certificate):
                worker.ready(240)
            trainer.ready()
            secrets = [*secured.passwords.values(), password, private]
            yield Loop(secured, [by_password, by_certificate], trainer, first, secrets, folder, common)
        finally:
            installation.close()
            trainer.kill()


def acl_lines(secured: Secured, role: str) -> list[str]:
    """What `liverank topics acls` prints for a role."""
    printed = liverank(secured, "operator", "topics", "acls").splitlines()
    at = printed.index(f"# {role}") + 1
    return [line for line in printed[at : at + 12] if f"User:{role}" in line]


def liverank(secured: Secured, role: str, *arguments: str, settings: Settings | None = None) -> str:
    """The output of a command that a role calls, and that goes well."""
    environment = environment_of(settings or secured.settings(role))
    with secured.as_user(role):
        ran = CliRunner().invoke(app, list(arguments), env=environment, catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    return ran.output


def refusal(settings: Settings) -> str:
    """What is answered where the broker does not take us."""
    with pytest.raises(BrokerRefusal) as error:
        check_reached(settings.broker, within_s=5.0)
    return str(error.value)


def producing(secured: Secured, role: str, topic: str, key: str, value: object) -> KafkaError | None:
    """Send one record as a role does; what the broker had against it."""
    told: list[KafkaError | None] = []
    with secured.as_user(role):
        producer = Producer(connection.librdkafka(secured.settings(role).broker) | {"partitioner": "murmur2_random"})
    producer.produce(topic, msgspec.json.encode(value), key, on_delivery=lambda error, message: told.append(error))
    assert producer.flush(30) == 0
    return told[0]


def reading(secured: Secured, role: str, topic: str) -> KafkaError | list[Message]:
    """What a role gets of a topic of the installation, or the broker's answer."""
    with secured.as_user(role):
        settings = secured.settings(role).broker
        group = next(iter(rights_of(role, settings).groups), f"{role}-looks")
        config = {"group.id": group, "enable.partition.eof": True, "enable.auto.commit": False}
        consumer = Consumer(connection.librdkafka(settings) | config)
    found, ended = [], 0
    try:
        if (error := consumer.list_topics(topic, timeout=30).topics[topic].error) is not None:
            return error
        consumer.assign([TopicPartition(topic, partition, 0) for partition in range(settings.partitions)])
        while ended < settings.partitions:
            message = consumer.poll(30)
            assert message is not None
            if message.error() is None:
                found.append(message)
            elif message.error().code() == KafkaError._PARTITION_EOF:
                ended += 1
            else:
                return message.error()
        return found
    finally:
        consumer.close()


def rankings(secured: Secured) -> list[Ranking]:
    """All of them, as the application reads them."""
    found = reading(secured, "application", "rankings")
    assert isinstance(found, list), found
    return [msgspec.json.decode(message.value(), type=Ranking) for message in found]


def test_the_whole_loop_works_under_these_rights(loop: Loop) -> None:
    """Rankings of both workers, a version that the trainer signed, and every command of the operator's."""
    secured = loop.secured
    for number, user in enumerate(USERS):
        items = [{"item_id": f"item-{item}"} for item in range(number, number + 6)]
        listed = {"request_id": f"r-{user}", "user_id": user, "items": items}
        assert producing(secured, "application", "candidates", user, listed) is None
    assert producing(secured, "application", "clicks", "nobody", {"user_id": "somebody"}) is None

    def learned() -> bool:
        for user in USERS:
            made = {"user_id": user, "item_id": f"item-{USERS.index(user) + 2}"}
            assert producing(secured, "application", "clicks", user, made) is None
        newest = {ranking.user_id: ranking for ranking in sorted(rankings(secured), key=lambda one: one.revision)}
        return set(newest) == set(USERS) and all(ranking.model != loop.first for ranking in newest.values())

    eventually("versions of the trainer rank everyone", learned, 120)
    for worker in loop.workers:
        assert "ready" in worker.log
    settings = loop.settings("operator")
    served = rankings(secured)[-1].model
    asked = {
        ("topics", "check"): "do not fit",  # the message that a dead letter was made of
        ("dead-letters", "--newest", "3"): "invalid",
        ("state", USERS[0]): '"user_id"',
        ("explain", USERS[0]): f"{USERS[0]}, list r-{USERS[0]}, by ",
        ("model", "list"): "promoted",
        ("model", "verify", served): "signed by trainer",
        ("model", "show", served): '"signed by trainer"',
        ("model", "pin", served): '"pinned"',
    }
    for arguments, says in asked.items():
        assert says in liverank(secured, "operator", *arguments, settings=settings), arguments


def test_a_log_is_replayed_under_the_applications_rights(loop: Loop, tmp_path: Path) -> None:
    """`liverank replay` is an application."""
    log = tmp_path / "log.jsonl"
    log.write_text('{"user_id":"replayed","item_id":"item-1"}\n{"item_id":"item-1","title":"A lamp"}\n')
    assert '"sent": 2' in liverank(loop.secured, "application", "replay", str(log))


def test_no_secret_is_written_anywhere_or_on_a_command_line(loop: Loop) -> None:
    """Passwords and keys, in every file that the processes wrote, and in what the machine shows of them."""
    secured = loop.secured
    shown = liverank(secured, "operator", "config", "show", settings=loop.settings("operator"))
    found = {Path("config show"): shown.encode()}
    found |= {path: path.read_bytes() for path in loop.folder.rglob("*") if path.is_file()}
    found |= {path: path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if os.access(path, os.R_OK)}
    logs = [path for path in found if path.name in ("log", "trainer.log")]
    assert len(logs) == 3
    assert all(found[path] for path in logs)
    words = [word.encode() for word in loop.secrets]
    leaks = [(path, at) for path, text in found.items() for at, word in enumerate(words) if word in text]
    assert not leaks


@pytest.mark.parametrize(
    ("role", "topic"),
    [("worker", "clicks"), ("worker", "candidates"), ("worker", "model-deltas"), ("trainer", "rankings"),
     ("trainer", "examples"), ("application", "rankings"), ("application", "model-updates"),
     ("operator", "items")],
)  # fmt: skip
def test_what_a_role_may_not_write(secured: Secured, role: str, topic: str) -> None:
    """A worker sends no inputs, a trainer no rankings; nobody writes what another one answers for."""
    error = producing(secured, role, topic, "u", {"user_id": "u", "item_id": "i"})
    assert error is not None
    assert error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED


@pytest.mark.parametrize(
    ("role", "topic"),
    [("trainer", "changelog"), ("application", "changelog"), ("application", "examples"), ("worker", "examples"),
     ("trainer", "clicks"), ("operator", "rankings")],
)  # fmt: skip
def test_what_a_role_may_not_read(secured: Secured, role: str, topic: str) -> None:
    """Whoever trains sees no rows, and whoever sends events sees nobody else's."""
    name = secured.settings(role).broker.changelog if topic == "changelog" else topic
    answer = reading(secured, role, name)
    assert isinstance(answer, KafkaError)
    assert answer.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED


@pytest.mark.parametrize(
    ("role", "command", "says"),
    [
        ("worker", "--operation Read --topic views", "may not READ views"),
        ("worker", "--operation Write --topic rankings", "may not WRITE rankings"),
        ("trainer", "--operation Read --topic examples", "may not READ examples"),
        ("trainer", "--operation Read --group liverank-trainer", "may not READ liverank-trainer"),
        ("application", "--operation Write --topic clicks", "may not WRITE clicks"),
    ],
)
def test_a_missing_right_is_named(secured: Secured, role: str, command: str, says: str) -> None:
    """Topic and operation, in one sentence, before anything begins."""
    line = f"kafka-acls.sh --bootstrap-server x --add --allow-principal User:{role} {command}"
    with secured.without(line), secured.as_user(role):
        eventually("the broker has heard of it", lambda: _denied(secured, role))
        with pytest.raises(AccessError, match=f"^the user '{role}' {says}; `liverank topics acls` prints"):
            check_access(secured.settings(role).broker, role)


def test_a_trainer_that_may_not_announce_says_so(secured: Secured, tmp_path: Path) -> None:
    """It ends at once, and names the right that it lacks."""
    line = (
        "kafka-acls.sh --bootstrap-server x --add --allow-principal User:trainer --operation Write --operation "
        "Describe --transactional-id liverank-trainer-default"
    )
    settings = secured.settings(
        "trainer", trainer_data=tmp_path / "data", trainer_metrics_port=-1, ready_file=tmp_path / "ready",
        registry=tmp_path / "registry",
    )  # fmt: skip
    with secured.without(line), secured.as_user("trainer"):
        trainer = Process(settings, tmp_path)
        try:
            said = trainer.ended()
        finally:
            trainer.kill()
    assert "may not WRITE under the transactional id 'liverank-trainer-default'" in said
    assert "Traceback" not in said


async def test_a_worker_that_may_not_write_rows_says_so(secured: Secured) -> None:
    """Before it joins the group."""
    line = (
        "kafka-acls.sh --bootstrap-server x --add --allow-principal User:worker --operation Write --operation "
        "Describe --transactional-id liverank-worker- --resource-pattern-type prefixed"
    )
    with secured.without(line), secured.as_user("worker"):
        outbox = TransactionalOutbox(secured.settings("worker").broker, "liverank-worker-one")
        with pytest.raises(SendError, match="may not WRITE under its transactional id"):
            await outbox.start()


def _denied(secured: Secured, role: str) -> bool:
    try:
        check_access(secured.settings(role).broker, role)
    except AccessError:
        return True
    return False


def test_who_may_do_everything_lacks_nothing(secured: Secured) -> None:
    """Where no rights are kept by user, or a user is above them, no right is missing."""
    for role in ROLES:
        check_access(changed(Settings(), brokers=secured.plain).broker, role)


def test_a_wrong_password_ends_worker_and_trainer_with_one_line(
    secured: Secured, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It names what is wrong, and is not tried again and again."""
    settings = secured.settings("worker", metrics_port=-1)
    with secured.as_user("worker", "not-the-passw0rd"):
        worker = Worker(settings, tmp_path / "worker").start()
        with pytest.raises(SystemExit) as ended:
            run_trainer(
                settings.trainer, {}, "trainer", lambda *_: None, lambda: check_access(settings.broker, TRAINER)
            )
    assert worker.process is not None
    assert (worker.process.wait(240), ended.value.code) == (1, 1)
    says = "ends: the broker at localhost:\\d+ does not let 'worker' in: `sasl_username`, or the password in the "
    for log in (worker.log, caplog.text):
        assert len(re.findall(says, log)) == 1, log
        assert "Traceback" not in log
        assert "not-the-passw0rd" not in log


def test_who_is_not_known_is_told_why(secured: Secured, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Each by the setting that says otherwise; a secret is in none of the answers."""
    operator, other = secured.settings("operator"), Authority(tmp_path_factory.mktemp("other"))
    tls = {"security_protocol": "SSL", "sasl_username": ""}
    cases = {
        "is signed by nobody in `ssl_cafile`": {"ssl_cafile": other.file},
        "has expired": {**tls, "brokers": secured.expired},
        "`addresses` must name the broker as": {"brokers": secured.scram.replace("localhost", "127.0.0.1")},
        "does not take the `sasl_mechanism` SCRAM-SHA-256": {"sasl_mechanism": "SCRAM-SHA-256"},
        "refuses no certificate": {**tls, "brokers": secured.mutual},
        "`ssl_certfile` must be a certificate that": {
            **tls, "brokers": secured.mutual, "ssl_certfile": other.signed("worker"),
        },
        "`security_protocol` is SASL_SSL": {"brokers": secured.plain},
        "`security_protocol` is SSL": tls,
        "`security_protocol` is PLAINTEXT": {
            "security_protocol": "PLAINTEXT", "sasl_username": "", "ssl_cafile": "",
        },
    }  # fmt: skip
    with secured.as_user("operator"), ThreadPoolExecutor(len(cases)) as together:
        answers = list(together.map(lambda changes: refusal(changed(operator, **changes)), cases.values()))
    with secured.as_user("operator", "wr0ng"):
        answers.append(refusal(operator))
    for says, answer in zip([*cases, "`sasl_username`, or the password"], answers, strict=True):
        assert says in answer, answer
        assert "\n" not in answer
        assert not [word for word in (*secured.passwords.values(), "wr0ng") if word in answer]
