"""What the Hub says of a repository beside its files: licence, task, gate, visibility."""

from __future__ import annotations

from typing import Any, Protocol

from mdm_kit.sources.hub_names import is_repo_id
from mdm_kit.sources.seam import Standing


class Info(Protocol):
    """What is used of the client's answer about a repository."""

    @property
    def id(self) -> str:
        """What the repository is called, whichever of its names was asked for."""

    @property
    def card_data(self) -> Any:
        """The card's front matter, None without a card."""

    @property
    def gated(self) -> Any:
        """`auto`, `manual` or False."""

    @property
    def private(self) -> Any:
        """Whether only its owner sees it."""

    @property
    def pipeline_tag(self) -> Any:
        """The task the Hub lists it under."""


def standing_of(info: Info, asked: str) -> Standing:
    """Return what the Hub's answer about the repository `asked` says, whatever its card holds."""

    def stated(name: str) -> str | None:
        value = getattr(info.card_data, name, None)
        return value if isinstance(value, str) and value else None

    tag = info.pipeline_tag
    return Standing(
        license=stated("license"),
        license_name=stated("license_name"),
        license_link=stated("license_link"),
        pipeline_tag=tag if isinstance(tag, str) and tag else stated("pipeline_tag"),
        gated=bool(info.gated),
        private=bool(info.private),
        base_models=_base_models(getattr(info.card_data, "base_model", None)),
        repo=info.id if info.id != asked and is_repo_id(info.id) else None,
    )


def _base_models(stated: object) -> tuple[str, ...]:
    found = stated if isinstance(stated, list) else [stated]
    return tuple(name for name in found if isinstance(name, str) and is_repo_id(name))
