"""Merges that keep sums grow and shrink from their repositories, though the old models are gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from published import files_of
from pushes import commits, ok, remote_files, run
from summed import KEPT, METHODS, REPO, Family, add, manifest, promised, pushed, unmerge

from mdm_kit.ledger.manifest import Manifest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from conftest import Client
    from server import Hub, Request

pytestmark = pytest.mark.hub


def weights_sent(log: Iterable[Request], repo: str = "") -> int:
    """Return the bytes of weights and sums sent beyond what is asked for to read headers."""
    return sum(
        r.sent
        for r in log
        if r.path.endswith(".safetensors")
        and repo in r.path
        and not (r.range or "").startswith("bytes=0-")
    )


@pytest.mark.parametrize("method", METHODS)
def test_a_published_merge_grows_and_the_earlier_one_still_works(
    client: Client, hub: Hub, method: str
) -> None:
    family = Family(hub, client)
    pushed(client, family.recipe(method, [1, 2]))
    first = hub.repos[REPO].refs["main"]
    family.forget("m1", "m2")
    add(client, method, REPO, "second", 3)
    wanted = family.here(method, [1, 2], then=[3])
    assert promised(client.home / "second") == wanted == family.here(method, [1, 2, 3])
    told = ok(client, "push", "second", REPO)
    assert (told["deltas"], told["changed"]) == (KEPT, True)
    assert [commits(hub, name) for name in (REPO, KEPT)] == [2, 2]
    assert hub.repos[REPO].commits[told["commit"]].parent == first
    kept = {n: data for n, data in remote_files(hub, KEPT).items() if n.startswith("deltas/")}
    assert kept == {n: data for n, data in wanted.items() if n.startswith("deltas/")}
    assert run(client, "verify", REPO)["code"] == 0
    # The revision before is whole as well: what it keeps lies at the commit it names.
    assert run(client, "verify", f"{REPO}@{first}")["code"] == 0
    add(client, method, f"{REPO}@{first}", "again", 3)
    assert promised(client.home / "again") == wanted
    sources = Manifest.from_bytes(files_of(client.home / "second")["mdm_manifest.json"]).sources
    assert [s.name for s in sources] == ["base", "m1", "m2", "m3"]


def test_opcm_steps_back_and_is_made_anew_without_an_early_model(client: Client, hub: Hub) -> None:
    family = Family(hub, client)
    pushed(client, family.recipe("opcm", [1, 2, 3]))
    family.forget("m1")
    unmerge(client, REPO, "replayed", "m1")
    assert promised(client.home / "replayed") == family.here("opcm", [2, 3])
    family.forget("m2", "m3")
    before = len(hub.log)
    unmerge(client, REPO, "back", "m3")
    assert not [r for r in hub.log[before:] if "/org/m" in r.path]
    back, wanted = promised(client.home / "back"), family.here("opcm", [1, 2])
    # What was before the last but one is not kept, so that sums have other files.
    weights = {n for n in wanted if not n.startswith("deltas/")}
    assert {n: back[n] for n in weights} == {n: wanted[n] for n in weights}
    said = run(client, "unmerge", REPO, "none", "--drop", "m2")
    assert said["code"] == 5
    assert "org/m1" in said["err"]


@pytest.mark.parametrize("drop", ["m1", "m3"])
def test_covmerge_loses_any_model_and_reads_no_other(client: Client, hub: Hub, drop: str) -> None:
    family = Family(hub, client)
    pushed(client, family.recipe("covmerge", [1, 2, 3]))
    left = [i for i in (1, 2, 3) if f"m{i}" != drop]
    family.forget(*(f"m{i}" for i in left))
    unmerge(client, REPO, "out", drop, "--mode", "exact")
    assert promised(client.home / "out") == family.here("covmerge", left)
    told = ok(client, "push", "out", "tester/less", "--supersedes", REPO)
    assert told["deltas"] == "tester/less-deltas"
    assert run(client, "verify", "tester/less")["code"] == 0


def test_opcm_goes_on_from_published_weights_and_says_what_that_costs(
    client: Client, hub: Hub
) -> None:
    family = Family(hub, client)
    pushed(client, family.recipe("opcm", [1, 2], keep="references"))
    assert KEPT not in hub.repos
    family.forget("m1", "m2")
    told = add(client, "opcm", REPO, "far", 3)
    assert "warning: the merge keeps no sums" in told
    assert "is read back from its weights, as they were rounded to BF16, F16, F32" in told
    assert promised(client.home / "far") == family.here("opcm", [1, 2], "references", then=[3])
    assert manifest(hub).sums is not None
    ok(client, "push", "far", REPO)
    sums = manifest(hub).sums
    assert sums is not None
    assert sums.rounded == 2
    assert 0 < sums.rounding < 1


def test_sums_are_verified_by_the_hubs_digests_and_a_changed_one_is_found(
    client: Client, hub: Hub
) -> None:
    family = Family(hub, client, n=2)
    pushed(client, family.recipe("covmerge", [1]))
    before = len(hub.log)
    said = run(client, "verify", REPO)
    assert said["code"] == 0, said["err"]
    assert "by the Hub's own digests" in said["out"]
    assert weights_sent(hub.log[before:]) == 0
    files = hub.repos[KEPT].commits[hub.repos[KEPT].refs["main"]].files
    (name, *_) = sorted(n for n in files if n.startswith("deltas/"))
    was = files[name]
    changed = bytearray(was.read())
    changed[-1] ^= 1
    for there, code, words in (
        (hub.objects.put(name, bytes(changed)), 4, "expected sha256:"),
        (None, 5, "is missing"),
    ):
        files.pop(name)
        if there is not None:
            files[name] = there
        said = run(client, "verify", REPO)
        assert said["code"] == 4
        assert name in said["err"]
        said = run(client, "add", REPO, "out", "--model", "org/m2")
        assert said["code"] == code, said["err"]
        assert name in said["err"]
        assert words in said["err"]
        assert not (client.home / "out").exists()
    files[name] = was
    hub.fault(f"GET .*{name}", corrupt=True)
    said = run(client, "add", REPO, "out", "--model", "org/m2")
    assert said["code"] == 4, said["err"]
    assert "in its downloaded copy" in said["err"]


def test_licences_of_models_that_are_gone_still_count(client: Client, hub: Hub) -> None:
    family = Family(hub, client)
    pushed(client, family.recipe("covmerge", [1, 2]))
    card = remote_files(hub, REPO)["README.md"].decode()
    assert "license: apache-2.0\n" in card
    family.forget("m1", "m2")
    add(client, "covmerge", REPO, "out", 3)
    card = (client.home / "out" / "README.md").read_text()
    assert "license: apache-2.0\n" in card
    assert "pipeline_tag: text-generation\n" in card
    assert "not known" not in card
    told = ok(client, "push", "out", "tester/open", "--public")
    assert told["private"] is False
    hub.repos["org/m3"].commit(
        {**remote_files(hub, "org/m3"), "README.md": b"---\nlicense: mit\n---\n"}
    )
    said = run(client, "add", REPO, "clash", "--model", "org/m3")
    assert said["code"] == 2
    assert "the models' licences differ" in said["err"]
    assert "m1 (org/m1): apache-2.0" in said["err"]
    assert not (client.home / "clash").exists()
