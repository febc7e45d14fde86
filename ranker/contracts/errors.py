"""The errors of this domain. Each message says the problem, then what would be right."""


class LiverankError(Exception):
    """Anything that liverank refuses, in one readable line."""


class SchemaError(LiverankError):
    """The feature schema, or the settings around it, cannot be used."""


class MappingError(LiverankError):
    """What says how others' names and values become ours, in `[data]` or `[topics]`, cannot be used."""


class InvalidRecord(LiverankError):
    """An input that cannot be used: it becomes a dead letter with this `reason`."""

    def __init__(self, reason: str, error: str) -> None:
        super().__init__(error)
        self.reason = reason
        self.error = error


class RowError(LiverankError):
    """A stored user row that this version cannot read."""


class LaterRow(RowError):
    """A stored user row of a later release: that one reads it, so it must not be written over."""


class BundleError(LiverankError):
    """A model bundle that must not serve.

    `reason` is a short code for counting: missing, changed, unsigned, too-large, schema, not-finite, golden, bad-name,
    or broken for all else.
    """

    def __init__(self, error: str, reason: str = "broken") -> None:
        super().__init__(error)
        self.reason = reason


class OtherInputs(BundleError):
    """A bundle of another schema or encoder than a running worker has: one that starts anew takes it."""

    def __init__(self, error: str) -> None:
        super().__init__(error, "schema")
