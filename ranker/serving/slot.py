"""The one reference that a hot swap changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ranker.rollout.canary import takes_part

if TYPE_CHECKING:
    from ranker.serving.model import ServingModel


class Serving(NamedTuple):
    """The models of one moment: what serves, what served before, and a canary with its share of users."""

    current: ServingModel | None = None
    previous: ServingModel | None = None
    canary: ServingModel | None = None
    share: float = 0.0

    def model_of(self, user_id: str) -> ServingModel | None:
        """The model that ranks for a user."""
        if self.canary is not None and takes_part(user_id, self.canary.version, self.share):
            return self.canary
        return self.current

    def share_of(self, model: ServingModel) -> float:
        """The share of users for whom a model ranks."""
        if model is self.canary:
            return self.share
        return 1 - self.share if model is self.current else 0.0

    @property
    def models(self) -> list[ServingModel]:
        """Each loaded model once."""
        found = {id(model): model for model in (self.current, self.previous, self.canary) if model is not None}
        return list(found.values())


class ModelSlot:
    """Holds the serving models. A batch reads `serving` once and keeps to what it read."""

    def __init__(self, model: ServingModel | None = None) -> None:
        self.serving = Serving(model)

    @property
    def current(self) -> ServingModel | None:
        """What serves every user who is not a canary's."""
        return self.serving.current

    @property
    def previous(self) -> ServingModel | None:
        """What served before, kept for a rollback."""
        return self.serving.previous

    @property
    def canary(self) -> ServingModel | None:
        """What serves a share of the users."""
        return self.serving.canary

    def swap(self, model: ServingModel) -> list[ServingModel]:
        """Serve this model from the next batch on; the one that served is kept for rollback.

        Returns:
            The models that leave. A batch that has begun may still rank with them.
        """
        now = self.serving
        if model is now.current:
            return []
        promoted = model is now.canary
        return self._replace(
            Serving(model, now.current, None if promoted else now.canary, 0.0 if promoted else now.share)
        )

    def set_canary(self, model: ServingModel | None, share: float = 0.0) -> list[ServingModel]:
        """Serve this model to a share of users beside the current one, or (None) no canary any more.

        Returns:
            The models that leave, as for `swap`.
        """
        return self._replace(Serving(self.serving.current, self.serving.previous, model, share))

    def _replace(self, serving: Serving) -> list[ServingModel]:
        """What leaves only stops following the catalogue."""
        before, self.serving = self.serving, serving
        kept = serving.models
        leaving = [model for model in before.models if not any(model is other for other in kept)]
        for model in leaving:
            model.close()
        return leaving
