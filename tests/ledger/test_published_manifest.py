"""Where a published merge's kept models lie: said by the manifest, recorded by no event."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mdm_kit.errors import IntegrityError
from mdm_kit.ledger.canonical import canonical, digest
from mdm_kit.ledger.entries import DeltasEntry
from mdm_kit.ledger.history import history_faults
from mdm_kit.ledger.manifest import Manifest, sections_of

GOLDEN = Path(__file__).with_name("golden") / "1" / "merged" / "mdm_manifest.json"
PLACE = DeltasEntry("you/merge-deltas", "0123456789" * 4)


@pytest.fixture
def manifest() -> Manifest:
    return Manifest.from_bytes(GOLDEN.read_bytes())


def test_a_merge_that_was_not_published_says_nothing_of_it(manifest: Manifest) -> None:
    content = json.loads(GOLDEN.read_bytes())
    stated = content.pop("digest")
    assert manifest.deltas is None
    assert manifest.content() == content
    assert manifest.digest == stated
    assert manifest.sections() == content["history"][-1]["sections"]
    assert manifest.published_with(None) == manifest


def test_it_is_in_the_digest_and_in_no_event(manifest: Manifest) -> None:
    published = manifest.published_with(PLACE)
    assert published.deltas == PLACE
    assert published.digest != manifest.digest
    assert published.sections() == manifest.sections()
    assert history_faults(published) == []
    raw = published.to_bytes()
    assert json.loads(raw)["deltas"] == {"repo": PLACE.repo, "commit": PLACE.commit}
    assert Manifest.from_bytes(raw) == published
    assert published.published_with(None).to_bytes() == GOLDEN.read_bytes()


def test_a_change_of_it_shows(manifest: Manifest) -> None:
    raw = manifest.published_with(PLACE).to_bytes()
    moved = raw.replace(b"you/merge-deltas", b"you/other-deltas")
    assert moved != raw
    with pytest.raises(IntegrityError, match="the place of its kept models was changed"):
        Manifest.from_bytes(moved)


@pytest.mark.parametrize(
    "place",
    [
        {"repo": "merge-deltas", "commit": PLACE.commit},
        {"repo": "a/b/c", "commit": PLACE.commit},
        {"repo": "../merge-deltas", "commit": "main"},
        {"repo": "you/merge-deltas", "commit": PLACE.commit[:39]},
        {"repo": "you/merge-deltas", "commit": PLACE.commit + "\n"},
        {"repo": "you/merge-deltas", "commit": "0123456789ABCDEF0123" * 2},
        {"repo": "you/merge-deltas"},
        {"repo": "you/merge-deltas", "commit": PLACE.commit, "path": "/etc"},
        [],
    ],
)
def test_a_place_that_cannot_be_is_refused(manifest: Manifest, place: object) -> None:
    content = {**manifest.content(), "deltas": place}
    assert sections_of(content) == manifest.sections()
    raw = canonical({**content, "digest": digest(content)})
    with pytest.raises(IntegrityError, match="is not a manifest: deltas"):
        Manifest.from_bytes(raw)
