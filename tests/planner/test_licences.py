"""Licences: inherited where all parents agree, decided by the recipe, refused where they clash."""

from __future__ import annotations

from pathlib import Path

import pytest
from families import tensors, write_model
from hub_like import COMMIT, SMALL, hub_like

import mdm_kit
from mdm_kit.cli.main import main
from mdm_kit.errors import FindingsError
from mdm_kit.ledger.entries import StandingEntry
from mdm_kit.planner.costs import Budget
from mdm_kit.planner.edit import Settings
from mdm_kit.planner.edits import plan_rebuild
from mdm_kit.planner.licences import Parent, Terms, recorded, terms_of
from mdm_kit.planner.patches import plan_patch
from mdm_kit.planner.plan import Plan
from mdm_kit.recipe import read_recipe_text
from mdm_kit.run.opened_merge import opened_merge
from mdm_kit.sources import FolderSite, MemorySource, Source, Standing
from mdm_kit.words import Level, License

RECIPE = "merge_method: linear\nmodels: [{model: o/a, parameters: {weight: 1}}]\n"
APACHE = {"license": "apache-2.0"}


def parent(name: str, **stands: object) -> Parent:
    return Parent(name, f"o/{name}", COMMIT, Standing(**stands))  # type: ignore[arg-type]


def local(name: str) -> Parent:
    return Parent(name, None, None, None)


def terms(*parents: Parent, decided: str = "") -> Terms:
    extra = f"license: {decided}\n" if decided else ""
    return terms_of(parents, read_recipe_text(RECIPE + extra).require())


def other(name: str, called: str | None, link: str | None = None) -> Parent:
    return parent(name, license="other", license_name=called, license_link=link)


INHERITED = {
    "one": ([parent("a", **APACHE)], License("apache-2.0")),
    "all the same": ([parent(n, **APACHE) for n in "abc"], License("apache-2.0")),
    "in another case": ([parent("a", **APACHE), parent("b", license="Apache-2.0")], "apache-2.0"),
    "no name but with other": (
        [parent("a", license="mit", license_name="x", license_link="https://h/y")],
        License("mit"),
    ),
    "another, by name": (
        [other("a", "qwen", "https://h/l"), other("b", "qwen", "https://h/m")],
        License("other", "qwen", "https://h/l"),
    ),
    "another, its text a file": (
        [other("a", "qwen", "LICENSE")],
        License("other", "qwen", f"https://huggingface.co/o/a/blob/{COMMIT}/LICENSE"),
    ),
    "a link that is none": ([other("a", "qwen", "javascript:x")], License("other", "qwen")),
    "a link out of it": ([other("a", "qwen", "../../x")], License("other", "qwen")),
    "a link only in one": (
        [other("a", "qwen"), other("b", "qwen", "https://h/m")],
        License("other", "qwen", "https://h/m"),
    ),
    "a nameless one": ([other("a", None, "LICENSE")], "other"),
}


@pytest.mark.parametrize("case", INHERITED)
def test_a_licence_all_state_is_inherited(case: str) -> None:
    parents, wanted = INHERITED[case]
    found = terms(*parents)
    got = found.license if isinstance(wanted, License) else found.license and found.license.id
    assert got == wanted
    assert (found.findings, found.private_because) == ((), ())


CLASHES = {
    "two": [parent("a", **APACHE), parent("b", license="mit")],
    "and one that states none": [
        parent("c"),
        parent("a", **APACHE),
        parent("b", license="llama3.1"),
    ],
    "and a folder": [local("f"), parent("a", **APACHE), parent("b", license="mit")],
    "names of another": [other("a", "qwen"), other("b", "gemma")],
    "nameless others": [other("a", None), other("b", None)],
}


@pytest.mark.parametrize("case", CLASHES)
def test_licences_that_differ_are_an_error_unless_the_recipe_decides(case: str) -> None:
    found = terms(*CLASHES[case])
    errors = [f for f in found.findings if f.level is Level.ERROR]
    assert len(errors) == 1
    assert "license:" in errors[0].hint
    for p in CLASHES[case]:
        if p.repo:
            assert f"{p.name} (o/{p.name}): {p.asked.license or 'none stated'}" in errors[0].message
    assert found.license is None
    decided = terms(*CLASHES[case], decided="cc-by-4.0")
    assert decided.license == License("cc-by-4.0")
    assert not any(f.level is Level.ERROR for f in decided.findings)
    assert decided.private_because == ()


PRIVATE = {
    "none stated": (parent("a"), "a (o/a) states no licence", "warning", ""),
    "gated": (parent("a", gated=True, **APACHE), "a (o/a) is gated", "warning", "stays"),
    "private": (
        parent("a", private=True),
        "a (o/a) states no licence and is private",
        "warning",
        "a (o/a) is private",
    ),
    "not asked": (parent("a", known=False), "was not looked up on the Hub", "note", "stays"),
    "a folder": (local("a"), "a is no model of the Hub", "", ""),
}


@pytest.mark.parametrize("case", PRIVATE)
def test_what_keeps_a_merge_private(case: str) -> None:
    one, reason, level, left = PRIVATE[case]
    found = terms(parent("x", **APACHE), one)
    assert len(found.private_because) == 1
    assert reason in found.private_because[0]
    assert found.license == (License("apache-2.0") if case == "gated" else None)
    assert [f.level for f in found.findings] == ([level] if level else [])
    decided = terms(parent("x", **APACHE), one, decided="mit")
    assert decided.license == License("mit")
    assert bool(decided.private_because) == bool(left)
    if left and left != "stays":
        assert decided.private_because == (left,)


def test_the_name_and_link_of_another_licence_stay_where_the_recipe_says_the_same() -> None:
    assert terms(other("a", "qwen", "https://h/l"), decided="other").license == License(
        "other", "qwen", "https://h/l"
    )
    assert terms(other("a", "qwen"), other("b", "gemma"), decided="other").license == License(
        "other"
    )


def test_the_task_all_are_listed_under() -> None:
    tags = [parent(n, pipeline_tag="fill-mask", **APACHE) for n in "ab"]
    assert terms(*tags).pipeline_tag == "fill-mask"
    assert terms(*tags, parent("c", **APACHE)).pipeline_tag is None
    assert terms(*tags, local("c")).pipeline_tag is None


def test_a_strangers_words_are_shown_as_text() -> None:
    found = terms(parent("a", license="x\x1b[31m\n---"), parent("b", license="mit"))
    assert "\x1b" not in found.findings[0].message
    assert "\n" not in found.findings[0].message


# Through plans and merges.


def text(*names: str, base: str = "", extra: str = "") -> str:
    models = "".join(f"  - {{model: {n}, parameters: {{weight: 1.0}}}}\n" for n in names)
    head = f"merge_method: mdm_oc\nbase_model: {base}\n" if base else "merge_method: linear\n"
    return f"{head}models:\n{models}{extra}\n"


def family(**stands: dict[str, object]) -> dict[str, Source]:
    return {f"o/{n}": hub_like(f"o/{n}", i, **s) for i, (n, s) in enumerate(stands.items())}


def planned(sources: dict[str, Source], extra: str = "") -> Plan:
    return mdm_kit.plan(text(*sources, extra=extra), sources=sources)


def test_a_plan_tells_it_before_anything_is_read() -> None:
    sources = family(a=APACHE, b={"license": "mit"})
    with pytest.raises(mdm_kit.errors.RecipeError, match="licences differ") as caught:
        planned(sources)
    assert "a (o/a): apache-2.0; b (o/b): mit" in str(caught.value)
    assert "recipe.yml:4:" in str(caught.value)  # where the second licence comes in
    with planned(sources, "license: mit") as plan:
        assert plan.terms.license == License("mit")
        assert plan.to_json()["license"] == "mit"
        assert plan.to_json()["private_because"] == []


def test_the_licence_changes_no_byte_and_so_not_the_plans_digest() -> None:
    with planned(family(a=APACHE, b=APACHE)) as one, planned(family(a={}, b={})) as two:
        assert one.digest == two.digest
        assert (one.terms.license, two.terms.license) == (License("apache-2.0"), None)
        assert len(two.terms.private_because) == 2
        assert two.exit_code == 0


def test_folders_inherit_nothing_and_say_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_model(tmp_path / "a", tensors(SMALL, 0))
    recipe = tmp_path / "r.yml"
    recipe.write_text(text(f"{tmp_path}/a"))
    assert main(["plan", str(recipe)]) == 0
    assert "licence" not in capsys.readouterr().err
    given = {"o/b": hub_like("o/b", 1, **APACHE)}
    with mdm_kit.plan(text(f"{tmp_path}/a", "o/b"), sources=given) as plan:
        assert plan.terms.license is None
        assert len(plan.terms.private_because) == 1
        assert not any("private" in f.message for f in plan.findings)


def merged(root: Path, sources: dict[str, Source], extra: str = "") -> None:
    names = [n for n in sources if n != "o/base"]
    recipe = text(*names, base="o/base", extra=extra)
    mdm_kit.merge(recipe, root, sources=sources, hash_sources=True)


def test_the_text_of_an_inherited_licence_travels(tmp_path: Path) -> None:
    files = {"LICENSE": b"do as you like\n", "NOTICE.txt": b"made by o\n"}
    sources: dict[str, Source] = {
        "o/base": hub_like("o/base", 0, files=files, **APACHE),
        "o/a": hub_like("o/a", 1, files={"LICENSE": b"another"}, **APACHE),
    }
    for extra, travel in (("", True), ("license: mit", False)):
        out = tmp_path / str(travel)
        merged(out, sources, extra)
        found = mdm_kit.verify(out)
        assert found.sound
        for name, data in files.items():
            assert (name in found.manifest.files) == travel
            assert (out / name).exists() == travel
            assert not travel or (out / name).read_bytes() == data


def named(sources: dict[str, Source]) -> dict[str, str | Source]:
    return {n.removeprefix("o/"): s for n, s in sources.items()}


def licence_in(folder: Path) -> str | None:
    lines = (folder / "README.md").read_text().split("---\n")[1].splitlines()
    return next((k.removeprefix("license: ") for k in lines if k.startswith("license: ")), None)


@pytest.mark.parametrize("mode", ["rebuild", "subtract", "exact"])
def test_a_removal_asks_those_that_are_left(tmp_path: Path, mode: str) -> None:
    sources = family(base=APACHE, a=APACHE, b=APACHE, c={"license": "apache-2.0", "gated": True})
    merged(tmp_path / "all", sources)
    assert licence_in(tmp_path / "all") == "apache-2.0"
    opened = named(sources)
    mdm_kit.unmerge(tmp_path / "all", tmp_path / "out", ["c"], mode=mode, sources=opened)  # type: ignore[arg-type]
    assert licence_in(tmp_path / "out") == "apache-2.0"


def test_who_is_not_read_stands_as_it_was_recorded(tmp_path: Path) -> None:
    """An exact patch takes out the first model without the last, whose weight stays."""
    sources = family(base=APACHE, a=APACHE, b=APACHE)
    merged(tmp_path / "all", sources)
    out = tmp_path / "out"
    mdm_kit.unmerge(tmp_path / "all", out, ["a"], mode="exact", sources=named(sources))
    assert licence_in(out) == "apache-2.0"
    assert "not known" not in (out / "README.md").read_text()


def test_what_the_recipe_decided_stays_decided(tmp_path: Path) -> None:
    sources = family(base=APACHE, a={"license": "mit"}, b={"license": "llama3.1"}, c={})
    merged(tmp_path / "all", sources, "license: other")
    opened = named(sources)
    for mode in ("rebuild", "subtract"):
        out = tmp_path / mode
        mdm_kit.unmerge(tmp_path / "all", out, ["a"], mode=mode, sources=opened)  # type: ignore[arg-type]
        assert licence_in(out) == "other"
    write_model(tmp_path / "more", tensors(SMALL, 9))
    addition = mdm_kit.Addition(str(tmp_path / "more"), None, None)
    mdm_kit.add(tmp_path / "all", tmp_path / "added", [addition], sources=opened)
    assert licence_in(tmp_path / "added") == "other"


def test_what_a_removed_model_left_still_counts(tmp_path: Path) -> None:
    """Merged last, nothing of it is left; merged first, it is in the other's component."""
    sources = family(base=APACHE, a={"license": "mit"}, b=APACHE)
    merged(tmp_path / "all", sources, "license: other")
    with opened_merge(FolderSite(tmp_path / "all"), named(sources)) as (parents, products):
        settings = Settings(1 << 30, Budget(1))
        with plan_patch(parents, products, ["a"], settings, exact=False) as first:
            assert first.terms.stated == {"base": "apache-2.0", "a": "mit", "b": "apache-2.0"}
        with plan_patch(parents, products, ["b"], settings, exact=False) as last:
            assert last.terms.stated == {"base": "apache-2.0", "a": "mit"}


def test_copies_of_models_of_the_hub_stand_as_was_recorded(tmp_path: Path) -> None:
    custom = {"license": "other", "license_name": "house", "license_link": "LICENSE.md"}
    stands = {"base": custom, "a": {**custom, "gated": True, "pipeline_tag": "x"}, "b": custom}
    sources = family(**stands)
    merged(tmp_path / "all", sources)
    plain = {
        n.removeprefix("o/"): MemorySource.from_tensors(n, tensors(SMALL, i))
        for i, n in enumerate(sources)
    }
    with (
        opened_merge(FolderSite(tmp_path / "all"), plain) as merge,
        plan_rebuild(*merge, ["b"], Settings(1 << 30, Budget(1))) as plan,
    ):
        assert plan.terms.private_because == ("a (o/a) is gated",)
        assert plan.terms.stated == {"base": "other (house)", "a": "other (house)"}
    mdm_kit.unmerge(tmp_path / "all", tmp_path / "out", ["b"], sources={**plain})
    assert licence_in(tmp_path / "out") == "other"
    card = (tmp_path / "out/README.md").read_text()
    assert "- o/base\n- o/a\n" in card
    # And so from merge to merge.
    mdm_kit.unmerge(tmp_path / "all", tmp_path / "more", ["a"], sources={**plain})
    found = mdm_kit.verify(tmp_path / "more").manifest.sources
    assert [s.standing.license_name for s in found if s.standing] == ["house", "house"]


def test_what_the_hub_says_now_comes_before_what_it_said(tmp_path: Path) -> None:
    merged(tmp_path / "all", family(base=APACHE, a=APACHE, b=APACHE))
    now = family(base=APACHE, a={"license": "mit"}, b=APACHE)
    with pytest.raises(FindingsError, match="licences differ"):
        mdm_kit.unmerge(tmp_path / "all", tmp_path / "out", ["b"], sources=named(now))


def test_who_was_not_asked_is_not_recorded_and_strangers_text_only_if_it_is_text() -> None:
    assert recorded(None) is None
    assert recorded(Standing(known=False)) is None
    odd = Standing(license="mit", license_name="a\ud800", license_link="x" * 2000, private=True)
    assert recorded(odd) == StandingEntry(license="mit", private=True)


def test_a_manifest_that_records_no_standing_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_model(tmp_path / "a", tensors(SMALL, 0))
    mdm_kit.merge(text(f"{tmp_path}/a"), tmp_path / "out")
    assert b"standing" not in (tmp_path / "out/mdm_manifest.json").read_bytes()
    assert mdm_kit.verify(tmp_path / "out").sound
