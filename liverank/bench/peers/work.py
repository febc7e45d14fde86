"""What every peer does for an event, whatever carries it: decoding, fold and model are those of liverank's worker."""

from __future__ import annotations

from ranker.contracts.clock import now_ms
from ranker.contracts.decoding import InputDecoder
from ranker.contracts.errors import InvalidRecord, LiverankError
from ranker.contracts.inputs import Position, UserInput
from ranker.contracts.records import Cause
from ranker.items.catalog import Catalog
from ranker.registry.bundle import fetch_bundle, newest_version, read_manifest
from ranker.serving.model import ServingModel, load_model
from ranker.serving.ranking import encode_ranking
from ranker.state.codec import decode_row, encode_row
from ranker.state.fold import apply_input
from streams.settings import WorkerSettings


class PeerWork:
    """The newest version of the registry, and what it makes of a record and its user's stored row."""

    def __init__(self, settings: WorkerSettings) -> None:
        """
        Args:
            settings: of the worker that it stands beside.

        Raises:
            LiverankError: the registry has no version.
        """
        version = newest_version(settings.registry.address, settings.registry.model)
        if version is None:
            raise LiverankError("the registry has no version")
        folder = fetch_bundle(settings.registry, version, settings.data)
        self.model: ServingModel = load_model(
            folder, Catalog(read_manifest(folder).schema.item_numeric), settings.serving
        )
        self.decoder = InputDecoder(self.model.schema, settings.limits, settings.broker.topics.translated)
        self._rules = settings.rows

    def __call__(self, at: Position, key: bytes, value: bytes, stored: bytes) -> tuple[bytes, list[bytes]] | None:
        """The row to store and the rankings to send; None where the record is refused.

        Args:
            at: where the record was read.
            key: of the record: the user.
            value: of the record.
            stored: the user's row, empty where there is none.
        """
        try:
            record = self.decoder(at, key, value, now_ms())
        except InvalidRecord:
            return None
        assert isinstance(record, UserInput)
        row = apply_input(decode_row(stored), record, at, self.model.schema, self._rules)
        user_id, rankings = key.decode(), []
        for listed in row.current:
            shown = row.of(listed)
            (ranked,) = self.model.rank([(user_id, shown)])
            cause = Cause(kind=at.topic, topic=at.broker_topic, partition=at.partition, offset=at.offset, ts=at.ts)
            rankings.append(encode_ranking(user_id, shown, ranked, cause, self.model.version))
        return encode_row(row), rankings
