"""Whole merges of models that are read by range: the right bytes, each once, whatever happens."""

from __future__ import annotations

import json
import random
import signal
from typing import TYPE_CHECKING, Any

import pytest
from large_models import (
    MEMORY,
    MODELS,
    WINDOW_NBYTES,
    base_tensors,
    moved,
    write_mixed,
    write_model,
    write_plain,
)
from ranged_merges import Case, Merges, content, data_nbytes, resolved

from mdm_kit.ledger.manifest import Manifest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.hub

STORAGE = r"GET /cdn/"
SMALL_SHARDS = ("--shard-size", "1MB")
LATE = 22
"""Requests after which a merge of two models has finished a shard, however fast they come: of 40 MB
fetched no more than 16 MiB were not read yet, and 8 MB of results not written."""
RANGES = r"GET .*(/cdn/|\.safetensors)"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(tmp_path_factory.mktemp("plain"), write_plain)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(tmp_path_factory.mktemp("mixed"), write_mixed)


def statuses(out: Path) -> dict[str, set[str | None]]:
    manifest = Manifest.from_bytes((out / "mdm_manifest.json").read_bytes())
    return {s.name: {f.status for f in s.files} for s in manifest.sources}


@pytest.mark.parametrize("redirect", [False, True])
def test_large_windows_each_byte_once_and_nothing_kept(
    merges: Merges, plain: Case, redirect: bool
) -> None:
    merges.offer(plain, redirect=redirect)
    announced = merges.planned(plain, "task_arithmetic")["costs"]["download_nbytes"]
    before = len(merges.hub.log)
    out = merges.finished(plain, "task_arithmetic")
    log = merges.hub.log[before:]
    assert statuses(out) == {name: {"verified"} for name in MODELS}
    sent = content(log)
    assert data_nbytes(log) <= announced <= plain.nbytes
    assert len(sent) <= plain.nbytes / WINDOW_NBYTES + 3 * len(MODELS)
    assert max(r.sent for r in sent) <= WINDOW_NBYTES
    assert len(resolved(log)) == len(MODELS) + (0 if redirect else len(sent))
    assert len({r.port for r in log}) <= 2 * 4 + 2, "connections are used again"
    assert not any(r.authorized for r in log if "/cdn/" in r.path)
    assert not list(merges.client.cache.rglob("*.safetensors"))


@pytest.mark.parametrize("method", ["linear", "mdm_oc", "mdm_oc global", "ties", "model_stock"])
def test_other_shards_and_orders(merges: Merges, mixed: Case, method: str) -> None:
    merges.offer(mixed, redirect=True)
    announced = merges.planned(mixed, method)["costs"]["download_nbytes"]
    before = len(merges.hub.log)
    merges.finished(mixed, method)
    # Of the shuffled model small tensors lie between others, and come along twice.
    assert data_nbytes(merges.hub.log[before:]) <= 1.01 * announced


@pytest.mark.parametrize("memory", ["8MB", "24MB"])
@pytest.mark.parametrize("method", ["mdm_oc", "mdm_oc global", "ties"])
def test_several_passes_in_little_memory(
    merges: Merges, plain: Case, method: str, memory: str
) -> None:
    words = ("--max-memory", memory, "--threads", "2")
    merges.offer(plain, redirect=True)
    announced = merges.planned(plain, method, words)["costs"]["download_nbytes"]
    before = len(merges.hub.log)
    merges.finished(plain, method, words=words)
    assert data_nbytes(merges.hub.log[before:]) <= announced


@pytest.mark.parametrize("uses", [1, 3])
def test_signed_addresses_that_expire(merges: Merges, plain: Case, uses: int) -> None:
    merges.offer(plain, redirect=True)
    merges.hub.signed_uses = uses
    merges.finished(plain, "linear")
    log = merges.hub.log
    assert any(r.status == 403 for r in log)
    assert len(resolved(log)) <= 2 * (len(content(log)) / uses + len(MODELS))


def test_cut_again_and_again(merges: Merges, plain: Case) -> None:
    """Each time some bytes came, so that no patience runs out; none of them is fetched again."""
    merges.offer(plain, redirect=True)
    chance = random.Random(0)
    for _ in range(25):
        cut = chance.choice([1, 7, 4096, 65_537, 1_000_003])
        merges.hub.fault(STORAGE, cut_after=cut, skip=chance.randrange(6))
    out = merges.finished(plain, "linear")
    assert not merges.hub.faults
    assert statuses(out) == {name: {"verified"} for name in ("a", "b")}


@pytest.mark.parametrize(
    ("where", "statuses"),
    [
        ("/api/models/", (429, 503)),
        ("/resolve/", (429, 503)),
        ("/cdn/", (429, 503)),
        ("/cdn/", (408, 500)),
        ("/cdn/", (502, 504)),
    ],
)
def test_bursts_of_refusals(
    merges: Merges, plain: Case, where: str, statuses: tuple[int, int]
) -> None:
    """As many as one request may meet at most: which of those under way meets them is chance."""
    merges.offer(plain, redirect=True)
    for status in statuses:
        headers = {"Retry-After": "1"} if status == 429 else {}
        merges.hub.fault(where, status=status, headers=headers)
    merges.finished(plain, "linear")
    assert not merges.hub.faults


def test_slow_answers(merges: Merges, plain: Case) -> None:
    merges.offer(plain, redirect=True)
    merges.hub.delay_s = 0.05
    merges.finished(plain, "linear")


def test_ranges_ignored_for_a_while(merges: Merges, plain: Case) -> None:
    merges.offer(plain, redirect=True)
    merges.hub.fault(STORAGE, ignore_range=True, skip=4)
    merges.hub.fault(STORAGE, ignore_range=True, skip=9)
    merges.finished(plain, "linear")
    assert merges.hub.bytes_sent("") < 2 * plain.nbytes


@pytest.mark.parametrize(
    "fault",
    [
        {"ignore_range": True},
        {"headers": {"Content-Range": "bytes 0-2097151/16800000"}},
        {"headers": {"Content-Range": "none"}},
        {"headers": {"Content-Encoding": "gzip"}},
    ],
    ids=["ignored", "another", "nonsense", "packed"],
)
def test_a_proxy_that_never_gives_ranges(
    merges: Merges, plain: Case, fault: dict[str, Any]
) -> None:
    """Told with the way out; the way out works, and goes on from what was finished."""
    merges.offer(plain, redirect=True)
    merges.hub.fault(STORAGE, times=10_000, skip=LATE, **fault)
    answer = merges.merge(plain, "linear", *SMALL_SHARDS)
    assert answer["code"] == 5, answer
    assert "--download" in answer["err"]
    assert merges.has_journal()
    merges.hub.faults.clear()
    answer = merges.merge(plain, "linear", *SMALL_SHARDS, "--download")
    assert answer["code"] == 0, answer["err"]
    assert merges.weights() == plain.merged("linear", *SMALL_SHARDS)


def test_failures_are_told_of_the_model_they_hit(merges: Merges, plain: Case) -> None:
    """Whoever waits is told, even a worker that waits for another model's bytes."""
    merges.offer(plain, redirect=False)
    a_is_slow = {"delay_s": 3.0, "times": 10_000, "skip": 2}
    merges.hub.fault("GET /org/a/resolve", **a_is_slow)
    merges.hub.fault("GET /org/b/resolve", status=503, times=10_000, skip=2)
    answer = merges.merge(plain, "linear")
    assert answer["code"] == 5
    assert "model 'b', org/b: the Hub is out of order (HTTP 503)" in answer["err"]


def test_the_hub_is_gone_in_the_middle(
    merges: Merges, plain: Case, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What was finished is kept; the same command finishes the rest, and gives the same bytes."""
    merges.offer(plain, redirect=True)
    gone = merges.hub
    gone.fault(STORAGE, skip=LATE, cut_after=0, before=gone.go_away)
    answer = merges.merge(plain, "linear", *SMALL_SHARDS)
    assert answer["code"] == 5, answer
    assert "the Hub cannot be reached" in answer["err"]
    assert merges.has_journal()
    with gone.back(tmp_path_factory.mktemp("hub")) as hub:
        merges.hub = merges.client.hub = hub
        answer = merges.merge(plain, "linear", *SMALL_SHARDS)
        assert answer["code"] == 0, answer["err"]
        assert "resuming: " in answer["err"]
        assert merges.weights() == plain.merged("linear", *SMALL_SHARDS)
        assert data_nbytes(hub.log) < 2 * plain.nbytes_each


def test_ctrl_c_does_not_wait_for_the_hub(merges: Merges, plain: Case) -> None:
    """The Hub's limit is reached, and it wants to be left alone for five minutes."""
    merges.offer(plain, redirect=True)
    busy = {"status": 429, "headers": {"Retry-After": "300"}}
    with merges.started(plain, "linear", *SMALL_SHARDS) as process:
        merges.hub.fault(
            STORAGE, skip=LATE, before=lambda: process.send_signal(signal.SIGINT), **busy
        )
        merges.hub.fault(STORAGE, skip=LATE, times=10_000, **busy)
        out, err = process.communicate(timeout=60)
    assert json.loads(out)["code"] == 130, err
    assert merges.has_journal()


def test_killed_in_the_middle(merges: Merges, plain: Case) -> None:
    merges.offer(plain, redirect=True)
    with merges.started(plain, "linear", *SMALL_SHARDS) as process:
        merges.hub.fault(STORAGE, skip=LATE, before=process.kill)
        process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert merges.has_journal()
    before = len(merges.hub.log)
    answer = merges.merge(plain, "linear", *SMALL_SHARDS)
    assert answer["code"] == 0, answer["err"]
    assert merges.weights() == plain.merged("linear", *SMALL_SHARDS)
    assert data_nbytes(merges.hub.log[before:]) <= 2 * plain.nbytes_each


def test_a_corrupted_byte_never_ends_in_a_merge(merges: Merges, plain: Case) -> None:
    merges.offer(plain, redirect=True)
    merges.hub.fault(STORAGE, corrupt=True, skip=8)
    answer = merges.merge(plain, "linear")
    assert answer["code"] == 4, answer
    assert "the Hub declares" in answer["err"]
    assert not merges.out.exists()
    assert not merges.has_journal(), "the same again would take over the wrong bytes"
    merges.finished(plain, "linear")


def test_a_branch_that_moves_changes_nothing(merges: Merges, plain: Case) -> None:
    commits = merges.offer(plain, redirect=True)
    repo = merges.hub.repos["org/b"]
    other = repo.commit({"config.json": b"{}", "model.safetensors": b"other"}, branch="next")
    merges.hub.fault(STORAGE, skip=6, before=lambda: repo.refs.update(main=other))
    out = merges.finished(plain, "linear")
    assert repo.refs["main"] == other
    manifest = Manifest.from_bytes((out / "mdm_manifest.json").read_bytes())
    assert {s.name: s.commit for s in manifest.sources} == {n: commits[n] for n in ("a", "b")}


@pytest.mark.parametrize("redirect", [False, True])
def test_a_file_that_is_replaced_under_its_commit(
    merges: Merges, plain: Case, redirect: bool
) -> None:
    """A lying Hub: found by the digest it offers, or by the digest of what came."""
    merges.offer(plain, redirect=redirect)
    merges.hub.signed_uses = 6
    files = merges.hub.repos["org/b"].commits[merges.hub.repos["org/b"].refs["main"]].files
    other = (plain.root / "b/model.safetensors").read_bytes()[:-1] + b"!"
    blob = merges.hub.objects.put("model.safetensors", other)
    swap = {"model.safetensors": blob}
    merges.hub.fault(RANGES, skip=8, before=lambda: files.update(swap))
    answer = merges.merge(plain, "linear")
    assert answer["code"] == 4, answer
    assert "the Hub declares" in answer["err"]
    assert not merges.out.exists()


def test_half_in_the_cache(merges: Merges, mixed: Case) -> None:
    """Files that are in the cache are read there, also from the middle of a sharded model."""
    merges.offer(mixed, redirect=True)
    here = ("model-00001-of-00003.safetensors", "model-00003-of-00003.safetensors")
    merges.client.run(
        "from huggingface_hub import hf_hub_download\n"
        f"answer = [hf_hub_download('org/base', f) for f in {here!r}]"
    )
    announced = merges.planned(mixed, "task_arithmetic")["costs"]["download_nbytes"]
    cached = sum((mixed.root / "base" / f).stat().st_size for f in here)
    assert mixed.nbytes - cached - 20_000 < announced < mixed.nbytes - cached
    before = len(merges.hub.log)
    out = merges.finished(mixed, "task_arithmetic")
    log = merges.hub.log[before:]
    assert data_nbytes(log) <= 1.01 * announced
    assert not any(r.path.endswith(here) for r in log if "/org/base/" in r.path)
    assert statuses(out)["base"] == {"verified"}
    assert len(list(merges.client.cache.rglob("*.safetensors"))) == len(here)


@pytest.mark.parametrize("token", [False, True])
@pytest.mark.parametrize("kind", ["private", "gated"])
def test_models_not_for_everybody(merges: Merges, plain: Case, kind: str, token: bool) -> None:
    merges.offer(plain, redirect=True, **{kind: True})
    answer = merges.plan(plain, "linear", token=token)
    assert answer["code"] == (0 if token else 5)
    if token:
        merges.finished(plain, "linear", token=True)
        return
    assert "hf auth login" in answer["err"]
    assert not content(merges.hub.log)


def test_a_renamed_repository_is_told_by_the_plan(merges: Merges, plain: Case) -> None:
    merges.offer(plain, redirect=True)
    merges.hub.rename("org/b", "team/better")
    answer = merges.plan(plain, "linear")
    assert answer["code"] == 5
    assert "team/better" in answer["err"]
    assert not merges.hub.requests("/(org/b|team/better)/resolve/")


@pytest.mark.parametrize(
    ("revision", "code"), [("nope", 5), ("0" * 40, 5), ("COMMIT", 0), ("v1", 0), ("SHORT", 0)]
)
def test_revisions(merges: Merges, plain: Case, revision: str, code: int) -> None:
    commits = merges.offer(plain, redirect=True)
    merges.hub.repos["org/b"].tags["v1"] = commits["b"]
    named = {"COMMIT": commits["b"], "SHORT": commits["b"][:8]}.get(revision, revision)
    answer = merges.plan(plain, "linear", revision=named)
    assert answer["code"] == code
    assert code == 0 or f"no branch, tag or commit '{named}'" in answer["err"]


def test_plan_of_many_shards_is_small(merges: Merges) -> None:
    """Sixty shards: headers, an index and little else."""
    root = merges.client.home / "many"
    base = base_tensors(120, 16_000)
    for name in MODELS:
        write_model(root / name, base, cuts=range(6, 360, 6))
        merges.hub.repo_folder(f"org/{name}", root / name, redirect=True)
    answer = merges.plan(None, "linear")
    assert answer["code"] == 0, answer["err"]
    for name in MODELS[1:]:
        asked = [r for r in merges.hub.log if f"org/{name}" in r.path]
        assert len([r for r in asked if r.path.endswith(".safetensors")]) == 60
    assert sum(r.sent for r in merges.hub.log) < 2 * 1_000_000


def test_ten_models_at_once(merges: Merges, tmp_path: Path) -> None:
    base = base_tensors(4, 400_000)
    names = [f"m{i}" for i in range(10)]
    for i, name in enumerate(names):
        write_model(tmp_path / "ten" / name, moved(base, i))
        merges.hub.repo_folder(f"org/{name}", tmp_path / "ten" / name, redirect=True)
    found = []
    for i, where in enumerate(("org", tmp_path / "ten")):
        text = "merge_method: linear\nparameters: {weight: 0.1}\nmodels:\n"
        text += "".join(f"  - {{model: {where}/{n}}}\n" for n in names)
        (merges.client.home / "ten.yml").write_text(text)
        answer = merges.run("merge", "ten.yml", f"ten{i}", *MEMORY)
        assert answer["code"] == 0, answer["err"]
        found.append((merges.client.home / f"ten{i}/model.safetensors").read_bytes())
    assert found[0] == found[1]
    weights = sum((tmp_path / "ten" / n / "model.safetensors").stat().st_size for n in names)
    assert data_nbytes(merges.hub.log) <= weights
    assert len({r.port for r in content(merges.hub.log)}) <= 8


def test_plan_says_what_is_fetched(merges: Merges, plain: Case) -> None:
    merges.offer(plain, redirect=True)
    told = json.loads(str(merges.plan(plain, "linear")["out"]))
    assert told["costs"]["download_nbytes"] == 2 * plain.nbytes_each
