"""Where an installation on one machine keeps what it has, and the settings that follow from that."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from liverank.local.errors import BrokerError
from liverank.local.ports import free_ports, is_free, page_port
from liverank.serve.own_folder import held as nobody_else_in
from liverank.settings import Settings, changed, load_settings, setting_sources
from ranker.contracts.errors import LiverankError

DEFAULT_PORT = 9092
#: Settings that follow from the folder, where neither file nor environment says otherwise.
_OF_THE_FOLDER = {
    "REGISTRY": (("registry", "address"), "registry"), "DATA": (("worker", "data"), "worker/data"),
    "TRAINER_DATA": (("trainer", "data"), "trainer/data"),
}  # fmt: skip


class Places:
    """An installation's folder: `DIR/liverank.toml` is the person's own, `DIR/.liverank` is ours."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.own = self.folder / ".liverank"

    @property
    def config(self) -> Path | None:
        """The person's settings, where there are any."""
        path = self.folder / "liverank.toml"
        return path if path.exists() else None

    def of(self, part: str) -> Path:
        """The folder of a part: its log, and what it keeps."""
        return self.own / part

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nobody else runs this installation meanwhile.

        Raises:
            LiverankError: somebody does, or the folder is a file.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise LiverankError(f"{self.folder} is a file; give a folder")
        taken = f"{self.folder} is up already, by the process {{holder}}: end that one, or name another folder"
        with nobody_else_in(self.own, taken):
            yield

    def port(self, wanted: int | None) -> int:
        """Where the broker listens: as asked for, else where it did before, else 9092, else any free port.

        Args:
            wanted: a port, 0 for any free one, None where nobody asks for one.

        Raises:
            BrokerError: the port that was asked for is taken.
        """
        kept = self.own / "port"
        if wanted:
            if not is_free(wanted):
                raise BrokerError(f"port {wanted} of 127.0.0.1 is taken; give another --port, or 0 for a free one")
            chosen = wanted
        else:
            noted = kept.read_text(encoding="utf-8", errors="replace").strip() if kept.exists() else ""
            before = [int(noted)] if noted.isdecimal() else []
            usual = [*before, *([] if wanted == 0 else [DEFAULT_PORT])]
            chosen = next((port for port in usual if is_free(port)), None) or free_ports(1)[0]
        kept.write_text(f"{chosen}\n", encoding="utf-8")
        return chosen

    def settings(self, brokers: str | None) -> Settings:
        """What file and environment say, and for the rest the folder's own places.

        Args:
            brokers: the address of the broker that was started here; None where the settings name one.

        Raises:
            SettingsError: a setting that cannot be used.
        """
        found, defaults = load_settings(self.config), Settings()
        sources = {(one.group, one.key): one for one in setting_sources(self.config)}
        own: dict[str, object] = {}
        for variable, (home, place) in _OF_THE_FOLDER.items():
            said = sources[home]
            if said.source == "default":
                own[variable.lower()] = self.own / place
            elif not said.value.startswith("~") and "://" not in said.value:
                # Each process runs in a folder of its own: a relative path would be another place for each.
                beside = self.folder if said.source == str(self.config) else Path.cwd()
                own[variable.lower()] = beside / said.value
        if found.worker.metrics_port == defaults.worker.metrics_port:
            own["metrics_port"] = 0  # several installations may share a machine
        if found.trainer.metrics_port == defaults.trainer.metrics_port:
            own["trainer_metrics_port"] = 0
        if brokers is not None:
            own["brokers"] = brokers
        return changed(found, **own)


def with_page(settings: Settings) -> Settings:
    """The same settings with ports for the page, and for the metrics that it shows: they stay the same when a part is
    started again.

    Raises:
        BrokerError: a port that was asked for is taken.
    """
    ports = iter(free_ports(2))
    own: dict[str, object] = {"web_port": page_port(settings.web.port, Settings().web.port)}
    if settings.worker.metrics_port == 0:
        own["metrics_port"] = next(ports)
    if settings.trainer.metrics_port == 0:
        own["trainer_metrics_port"] = next(ports)
    return changed(settings, **own)
