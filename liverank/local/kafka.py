"""One Apache Kafka node, broker and controller in one: its configuration, its storage, the command that runs it."""

from __future__ import annotations

import base64
import re
import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from liverank.local.children import run_to_end
from liverank.local.errors import BrokerError
from liverank.local.jars import fetch_kafka
from liverank.local.java import find_java
from liverank.local.ports import free_ports
from liverank.local.resources import kafka_resources


@dataclass(frozen=True, slots=True)
class BrokerProgram:
    """One broker process: its command, where it answers, and the cluster id by which its answers are known as its."""

    argv: tuple[str, ...]
    address: str
    cluster_id: str
    log_file: Path


def kafka_program(
    data_dir: Path, port: int, settings: Mapping[str, str], heap_mb: int, cluster_id: str | None = None
) -> BrokerProgram:
    """Write the configuration, format the storage if it is new, and return the command.

    Args:
        data_dir: holds configuration, log and data.
        port: where clients reach it on 127.0.0.1.
        settings: what to change in server.properties.
        heap_mb: the largest Java heap.
        cluster_id: of the cluster that a new storage is for; None: one of its own.

    Raises:
        BrokerError: Java or the jars are missing, the folder's path is none for Kafka, or the storage cannot be
            formatted.
    """
    java, resources, classpath = find_java(), kafka_resources(), str(fetch_kafka() / "*")
    properties = data_dir / "server.properties"
    template = string.Template((resources / "server.properties").read_text(encoding="utf-8"))
    storage = data_dir / "kafka"
    if "," in str(storage):
        raise BrokerError(f"{data_dir}: Apache Kafka takes a comma in a path for its end; give a folder without one")
    controller_port = next(free for free in free_ports(2) if free != port)
    text = template.substitute(port=port, controller_port=controller_port, data=_property(storage))
    text += "".join(f"{name}={value}\n" for name, value in settings.items())
    properties.write_text(text, encoding="utf-8")

    logging_options = (f"-Dlog4j2.configurationFile={resources / 'log4j2.yaml'}", "-cp", classpath)
    stored = _stored_cluster_id(storage)
    cluster_id = stored or cluster_id or new_cluster_id()
    if stored is None:
        tool = ("kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(properties))
        run_to_end([java, "-XX:TieredStopAtLevel=1", *logging_options, *tool], f"formatting {storage}", 60)
    heap = (f"-Xms{min(256, heap_mb)}m", f"-Xmx{heap_mb}m", "-XX:+UseG1GC", "-XX:+ExitOnOutOfMemoryError")
    argv = (java, *heap, "-Djava.awt.headless=true", *logging_options, "kafka.Kafka", str(properties))
    return BrokerProgram(argv, f"127.0.0.1:{port}", cluster_id, data_dir / "broker.log")


def _property(path: Path) -> str:
    """A path as Java reads it back from a file of properties, which is Latin-1 and has escapes."""
    units = str(path).encode("utf-16-be")
    codes = [int.from_bytes(units[at : at + 2], "big") for at in range(0, len(units), 2)]
    return "".join(chr(code) if 32 < code < 127 and code != ord("\\") else f"\\u{code:04x}" for code in codes)


def _stored_cluster_id(storage: Path) -> str | None:
    meta = storage / "meta.properties"
    if not meta.exists():
        return None
    found = re.search(r"^cluster\.id=(\S+)$", meta.read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else None


def new_cluster_id() -> str:
    """16 random bytes in base64, as Kafka writes them. The first bit is 0: no id may start with "-"."""
    raw = bytes([secrets.randbelow(128)]) + secrets.token_bytes(15)
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
