"""Attack: model references and revisions that would lead somewhere else."""

from __future__ import annotations

import pytest

from mdm_kit.recipe import Parsed, quoted, read_recipe_text


def parse(reference: str) -> Parsed:
    return read_recipe_text(f"merge_method: x\nmodels: [{{model: {quoted(reference)}, name: n}}]\n")


def parse_mapping(path: str, revision: str) -> Parsed:
    inner = f"{{path: {quoted(path)}, revision: {quoted(revision)}}}"
    return read_recipe_text(f"merge_method: x\nmodels: [{{model: {inner}, name: n}}]\n")


def refused(parsed: Parsed) -> str:
    assert parsed.recipe is not None
    assert parsed.recipe.models == ()
    (finding,) = parsed.findings
    assert finding.message.startswith("model: ")
    assert finding.place is not None
    assert (finding.place.line, finding.place.column) == (2, 18)
    return finding.message


@pytest.mark.parametrize(
    "reference",
    ["", " ", " org/a", "org/a ", "org/a\x00", "org/a\nb", "org/\x1b[2Ja", "org/\u202ea",
     "org/a\u200b", "org/a\u2028", "\x7f", "\x85a"],
)  # fmt: skip
def test_empty_and_invisible(reference: str) -> None:
    message = refused(parse(reference))
    assert message.isprintable()


@pytest.mark.parametrize(
    "reference", ["C:\\models\\a", "c:/models/a", "C:", "\\\\server\\share", "org\\a", "..\\a"]
)
def test_windows_paths(reference: str) -> None:
    assert "is a Windows path" in refused(parse(reference))


@pytest.mark.parametrize(
    "reference", ["https://huggingface.co/org/a", "file:///etc", "hf://org/a", "s3://b/a"]
)
def test_urls(reference: str) -> None:
    assert "found the URL" in refused(parse(reference))


@pytest.mark.parametrize("reference", ["a@b@c", "a+b+c", "a+b@c@d", "@@", "++"])
def test_a_sign_too_many(reference: str) -> None:
    parsed = parse(reference)
    refused(parsed)
    assert "{model: {path: " in parsed.findings[0].hint


@pytest.mark.parametrize(
    "reference", ["@main", "+lora", "org/a+", "org/a@", "org/a+@x", "org/a@+x"]
)
def test_missing_parts(reference: str) -> None:
    refused(parse(reference))


BAD_REVISIONS = [
    "..", "../main", "a/../b", "a..b", "/main", "main/", "a//b", ".hidden", "-x", "a b", "a\tb",
    "a\\b", "a:b", "refs^{}", "a~1", "a*", "a?b", "a[b", "a%2e%2e", "é", "a\nb", "a\x00",
    "x" * 256, "sha256:" + "0" * 64,
]  # fmt: skip


@pytest.mark.parametrize("revision", BAD_REVISIONS)
def test_revisions(revision: str) -> None:
    refused(parse(f"org/a@{revision}"))
    refused(parse_mapping("org/a", revision))
    refused(parse(f"org/a+org/b@{revision}"))


@pytest.mark.parametrize(
    "path",
    ["./a", "../a", "/a", "~/a", "a/b/c", "..", "org/..", "../..", "org/a b", "org/a:b", "org/.a",
     "org/-a", "-org/a", "org/", "/org", "é/a", "org/a..b"],
)  # fmt: skip
def test_only_a_hub_id_has_a_revision(path: str) -> None:
    assert "is not a Hub id" in refused(parse(f"{path}@main"))
    assert "is not a Hub id" in refused(parse_mapping(path, "main"))


def test_folders_are_the_user_s_own() -> None:
    for path in ("/abs/a", "../../up/a", "./a b", "a:b", "~/a", "a/../b"):
        recipe = parse(path).require()
        assert recipe.models[0].ref.path == path


def test_paths_have_an_end() -> None:
    assert parse("a" * 4096).ok
    assert "at most 4096 characters" in refused(parse("a" * 4097))
    assert "found a reference of" in refused(parse("a" * 100_000))


@pytest.mark.parametrize(
    "reference",
    ["local:a@sha256:xyz", "local:a/b@sha256:" + "0" * 64, "local:a@md5:" + "0" * 32,
     "other:a@sha256:" + "0" * 64, "local:@sha256:" + "0" * 64,
     "local:a@sha256:" + "0" * 65, "local:a\nb@sha256:" + "0" * 64,
     "local:a@sha256:" + "0" * 64 + "+a+b"],
)  # fmt: skip
def test_what_only_looks_like_the_digest_of_a_folder(reference: str) -> None:
    refused(parse(reference))


def test_references_of_the_base_are_judged_alike() -> None:
    parsed = read_recipe_text('merge_method: x\nmodels: [{model: a}]\nbase_model: "a@.."\n')
    (finding,) = parsed.findings
    assert finding.message == "base_model: '..' cannot be a revision"
