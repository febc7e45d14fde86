"""The one reference that a hot swap changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ranker.serving import ServingModel


class ModelSlot:
    """Holds the serving model and the one before it. A batch reads `current` once and keeps to what it read."""

    def __init__(self, model: ServingModel | None = None) -> None:
        self.current = model
        self.previous: ServingModel | None = None

    def swap(self, model: ServingModel) -> None:
        """Serve this model from the next batch on; the one that served is kept for rollback."""
        if self.previous is not None and self.previous is not model:
            self.previous.close()
        self.previous, self.current = self.current, model
