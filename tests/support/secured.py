"""An Apache Kafka that asks who comes: TLS, SCRAM and mutual TLS, and rights by user."""

from __future__ import annotations

import argparse
import secrets
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from liverank.local.broker import start_broker
from liverank.local.ports import free_ports
from liverank.settings import Settings, changed
from streams.access.rights import ROLES, acl_commands
from tests.support.authority import Authority

_ANSWER_S = 30.0


@dataclass(frozen=True)
class Secured:
    """Its listeners' addresses, who signs its certificates, and its users' passwords.

    Nobody who comes to `plain`, from this machine, is asked anything: a test's way to arrange and to look.
    """

    plain: str
    scram: str
    mutual: str
    expired: str
    authority: Authority
    passwords: Mapping[str, str]
    folder: Path

    def settings(self, role: str, **more: object) -> Settings:
        """How a role connects, but for its password."""
        return changed(
            Settings(), brokers=self.scram, security_protocol="SASL_SSL", sasl_username=role,
            ssl_cafile=self.authority.file, **more,
        )  # fmt: skip

    @contextmanager
    def as_user(self, role: str, password: str | None = None) -> Iterator[None]:
        """Have the role's password in the environment, where it belongs."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LIVERANK_SASL_PASSWORD", self.passwords[role] if password is None else password)
            yield

    def grant(self, settings: Settings) -> None:
        """Give each role what `liverank topics acls` prints, read as kafka-acls.sh reads it."""
        principals = {role: f"User:{role}" for role in ROLES}
        self.allow(*(line for line in acl_commands(settings.broker, principals) if not line.startswith("#")))

    def allow(self, *commands: str) -> None:
        """What these calls of kafka-acls.sh would."""
        admin = self._admin()
        for made in admin.create_acls([acl for line in commands for acl in _acls(line)]).values():
            made.result(_ANSWER_S)

    @contextmanager
    def without(self, command: str) -> Iterator[None]:
        """Take back what this call of kafka-acls.sh gives, for as long as the block lasts."""
        taken = [AclBindingFilter(*_parts(acl)) for acl in _acls(command)]
        admin = self._admin()
        for gone in admin.delete_acls(taken).values():
            assert gone.result(_ANSWER_S), f"nobody had what {command} gives"
        try:
            yield
        finally:
            self.allow(command)

    def _admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.plain})


@contextmanager
def secured_kafka(folder: Path) -> Iterator[Secured]:
    """Start one, with a SCRAM user for each role."""
    plain, controller, scram, mutual, expired = free_ports(5)
    authority = Authority(folder)
    good, old = authority.signed("localhost"), authority.signed("localhost", days=-1)
    others = f"SCRAM://localhost:{scram},MUTUAL://localhost:{mutual},EXPIRED://localhost:{expired}"
    settings = {
        "listeners": f"PLAINTEXT://127.0.0.1:{plain},CONTROLLER://127.0.0.1:{controller},{others}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{plain},{others}",
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "listener.security.protocol.map": (
            "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SCRAM:SASL_SSL,MUTUAL:SSL,EXPIRED:SSL"
        ),
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(good),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(authority.file),
        "listener.name.mutual.ssl.client.auth": "required",
        "listener.name.expired.ssl.keystore.type": "PEM",
        "listener.name.expired.ssl.keystore.location": str(old),
        "listener.name.scram.sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.scram.scram-sha-512.sasl.jaas.config": (
            "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        ),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }
    passwords = {role: secrets.token_urlsafe(18) for role in ROLES}
    with start_broker("kafka", folder / "broker", port=plain, settings=settings, deadline_s=300) as broker:
        _add_users(broker.address, passwords)
        yield Secured(
            plain=broker.address, scram=f"localhost:{scram}", mutual=f"localhost:{mutual}",
            expired=f"localhost:{expired}", authority=authority, passwords=passwords, folder=folder,
        )  # fmt: skip


def _add_users(address: str, passwords: Mapping[str, str]) -> None:
    how = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
    users = [UserScramCredentialUpsertion(user, how, password.encode()) for user, password in passwords.items()]
    admin = AdminClient({"bootstrap.servers": address})  # held until it has answered
    for made in admin.alter_user_scram_credentials(users).values():
        made.result(_ANSWER_S)


def _acls(line: str) -> Iterator[AclBinding]:
    """The rights that a call of kafka-acls.sh gives."""
    program, *arguments = shlex.split(line)
    assert program == "kafka-acls.sh"
    parser = argparse.ArgumentParser(exit_on_error=False)
    for name in ("--bootstrap-server", "--allow-principal", "--resource-pattern-type"):
        parser.add_argument(name)
    parser.add_argument("--add", action="store_true")
    for name in ("--operation", "--topic", "--group", "--transactional-id"):
        parser.add_argument(name, action="append", default=[])
    given = parser.parse_args(arguments)
    assert given.add
    pattern = ResourcePatternType.PREFIXED if given.resource_pattern_type == "prefixed" else ResourcePatternType.LITERAL
    resources = [(ResourceType.TOPIC, name) for name in given.topic]
    resources += [(ResourceType.GROUP, name) for name in given.group]
    resources += [(ResourceType.TRANSACTIONAL_ID, name) for name in given.transactional_id]
    operations = {operation.name.replace("_", "").lower(): operation for operation in AclOperation}
    for kind, name in resources:
        for operation in given.operation:
            yield AclBinding(
                kind, name, pattern, given.allow_principal, "*", operations[operation.lower()], AclPermissionType.ALLOW
            )


def _parts(acl: AclBinding) -> tuple[object, ...]:
    return (
        acl.restype, acl.name, acl.resource_pattern_type, acl.principal, acl.host, acl.operation, acl.permission_type,
    )  # fmt: skip
