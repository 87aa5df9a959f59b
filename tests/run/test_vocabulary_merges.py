"""Merges of models with different vocabularies: rows, files, loading, and taking models out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from families import read_model
from tokenizers import Tokenizer
from torch import Tensor
from vocabularies import EMBEDDING, HEAD, tensors, tokenizer_with, write

import mdm_kit
from mdm_kit.errors import IntegrityError, UsageError
from mdm_kit.sources import FolderSource

SPECIAL = {"base": ["<|base|>"], "a": ["<|a|>", "<|ab|>"], "b": ["<|ab|>", "<|b|>"], "c": ["<|c|>"]}


@pytest.fixture
def family(tmp_path: Path) -> Path:
    """A base padded to 320 rows and three models, each with tokens of its own."""
    for seed, (name, special) in enumerate(SPECIAL.items()):
        rows = 320 if name == "base" else None
        write(tmp_path / name, tokenizer_with(special), rows, seed=seed)
    return tmp_path


def recipe(family: Path, names: str, lines: str, method: str = "task_arithmetic") -> str:
    models = "".join(
        f"  - {{model: {family}/{n}, name: {n}, parameters: {{weight: 0.5}}}}\n" for n in names
    )
    return f"merge_method: {method}\nbase_model: {family}/base\nmodels:\n{models}{lines}\n"


def merged(family: Path, names: str, lines: str, out: str = "out", **more: str) -> Path:
    mdm_kit.merge(mdm_kit.read_recipe(recipe(family, names, lines, **more)), family / out)
    return family / out


def ids_of(folder: Path) -> dict[str, int]:
    return Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab()


def row_of(folder: Path, token: str, name: str = EMBEDDING) -> Tensor:
    return read_model(folder)[name][ids_of(folder)[token]]


def bytes_of(folder: Path) -> dict[str, bytes]:
    unlike = ("mdm_manifest.json", "README.md", ".mdm_local.json", "mdm_recipe.yml")
    return {
        p.name: p.read_bytes() for p in folder.iterdir() if p.is_file() and p.name not in unlike
    }


@pytest.mark.parametrize("name", [EMBEDDING, HEAD])
def test_every_row_of_a_union_lands_where_its_token_is(family: Path, name: str) -> None:
    out = merged(family, "abc", "tokenizer_source: union")
    ids = ids_of(out)
    new = ["<|a|>", "<|ab|>", "<|b|>", "<|c|>"]
    assert [ids[t] for t in ["<|base|>", *new]] == [300, 301, 302, 303, 304]
    base, a, b, c = (
        row_of(family / n, t, name)
        for n, t in (("base", "<|base|>"), ("a", "<|a|>"), ("b", "<|b|>"), ("c", "<|c|>"))
    )
    # A token of one model is the same row in all of them: nothing was changed against it.
    for token, row in (("<|base|>", base), ("<|a|>", a), ("<|b|>", b), ("<|c|>", c)):
        assert torch.equal(row_of(out, token, name), row)
    both = [row_of(family / n, "<|ab|>", name).double() for n in "ab"]
    torch.testing.assert_close(row_of(out, "<|ab|>", name).double(), sum(both) / 2)
    found = read_model(out)[name]
    stored = [read_model(family / n)[name].double() for n in ("base", "a", "b", "c")]
    known = 0.5 * (stored[1][:300] + stored[2][:300] + stored[3][:300]) - 0.5 * stored[0][:300]
    torch.testing.assert_close(found[:300].double(), known, rtol=1e-6, atol=1e-6)
    assert found.shape == (320, 8)  # the base's padding holds them all
    assert torch.equal(found[305:], read_model(family / "base")[name][305:])


def test_the_result_loads_encodes_and_generates(family: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    out = merged(family, "abc", "tokenizer: {source: union, pad_to_multiple_of: 64}")
    tokenizer = AutoTokenizer.from_pretrained(out)
    for token in ("<s>", "<|base|>", "<|a|>", "<|ab|>", "<|b|>", "<|c|>"):
        (i,) = tokenizer.encode(token, add_special_tokens=False)
        assert tokenizer.decode([i]) == token
    text = "the quick <|a|> brown<|c|>"
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text
    model = AutoModelForCausalLM.from_pretrained(out)
    assert model.config.vocab_size == 320 == model.get_input_embeddings().weight.shape[0]
    start = tokenizer(text, return_tensors="pt").input_ids
    assert model.generate(start, max_new_tokens=2, do_sample=False).shape[1] > start.shape[1]


def test_files_are_copied_where_the_vocabulary_is_the_bases(family: Path) -> None:
    out = merged(family, "abc", "tokenizer_source: base")
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        assert (out / name).read_bytes() == (family / "base" / name).read_bytes()
    assert read_model(out)[EMBEDDING].shape == (320, 8)


def test_another_models_vocabulary_brings_its_files(family: Path) -> None:
    swapped = json.loads(tokenizer_with(["<|a|>", "<|ab|>"]).to_str())
    vocabulary = swapped["model"]["vocab"]
    vocabulary["<s>"], vocabulary["</s>"] = vocabulary["</s>"], vocabulary["<s>"]
    tokenizer = Tokenizer.from_str(json.dumps(swapped))
    files = {"chat_template.jinja": b"{{ messages }} of a"}
    write(family / "s", tokenizer, seed=9, files=files)
    out = merged(family, "as", f"tokenizer_source: {family}/s")
    for name in ("tokenizer.json", "chat_template.jinja"):
        assert (out / name).read_bytes() == (family / "s" / name).read_bytes()
    config = json.loads((out / "config.json").read_text())
    ends = {k: config[k] for k in ("bos_token_id", "eos_token_id", "pad_token_id", "vocab_size")}
    assert ends == {"bos_token_id": 1, "eos_token_id": 0, "pad_token_id": 2, "vocab_size": 302}
    told = json.loads((out / "generation_config.json").read_text())
    assert told == {"bos_token_id": 1, "eos_token_id": [0], "pad_token_id": 2}


def test_rows_that_are_new_are_the_mean_of_the_real_ones(family: Path) -> None:
    out = merged(
        family,
        "abc",
        "tokenizer: {source: a, pad_to_multiple_of: 8}".replace("source: a", f"source: {family}/a"),
    )
    rows = read_model(out)[EMBEDDING]
    assert rows.shape == (304, 8)
    torch.testing.assert_close(rows[302:], rows[:302].mean(0).expand(2, 8), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_means_do_not_change_the_dtype_of_the_result(tmp_path: Path, dtype: torch.dtype) -> None:
    for seed, name in enumerate(("base", "a", "b")):
        write(tmp_path / name, tokenizer_with(SPECIAL[name]), seed=seed, dtype=dtype)
    out = merged(tmp_path, "ab", "tokenizer_source: union")
    assert {t.dtype for t in read_model(out).values()} == {dtype}
    both = [row_of(tmp_path / n, "<|ab|>").double() for n in "ab"]
    exact = ((both[0] + both[1]) / 2).float()
    deltas = sum(0.5 * (b.float() - exact) for b in both)
    assert torch.equal(row_of(out, "<|ab|>"), (exact + deltas).to(dtype))


def test_token_ids_beyond_the_rows_are_no_hole(tmp_path: Path) -> None:
    write(tmp_path / "base", tokenizer_with(["<|x|>", "<|y|>"]), 301, seed=0)
    write(tmp_path / "a", tokenizer_with(["<|y|>"]), seed=1)
    out = merged(tmp_path, "a", "tokenizer_source: base")
    assert json.loads((out / "config.json").read_text())["vocab_size"] == 302
    assert torch.equal(row_of(out, "<|y|>"), row_of(tmp_path / "a", "<|y|>"))


def test_the_config_says_what_was_written_without_a_block(tmp_path: Path) -> None:
    for seed, name in enumerate(("base", "a")):
        folder = write(tmp_path / name, tokenizer_with(), seed=seed)
        config = json.loads((folder / "config.json").read_text())
        config |= {
            "vocab_size": 302,
            "text_config": {"vocab_size": 302},
            "vision": {"vocab_size": 9},
        }
        (folder / "config.json").write_text(json.dumps(config))
    config = json.loads((merged(tmp_path, "a", "") / "config.json").read_text())
    sizes = (
        config["vocab_size"],
        config["text_config"]["vocab_size"],
        config["vision"]["vocab_size"],
    )
    assert sizes == (300, 300, 9)


def test_tied_and_untied_models_alike(tmp_path: Path) -> None:
    for seed, name in enumerate(("base", "a", "b")):
        tokenizer = tokenizer_with(SPECIAL[name])
        made = tensors(len(tokenizer.get_vocab()), seed)
        del made[HEAD]
        write(tmp_path / name, tokenizer, model=made)
        config = json.loads((tmp_path / name / "config.json").read_text())
        (tmp_path / name / "config.json").write_text(
            json.dumps(config | {"tie_word_embeddings": True})
        )
    out = merged(tmp_path, "ab", "tokenizer_source: union")
    assert json.loads((out / "config.json").read_text())["tie_word_embeddings"]
    assert HEAD not in read_model(out)
    assert torch.equal(row_of(out, "<|a|>"), row_of(tmp_path / "a", "<|a|>"))


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        ("chat_template: auto", "{{ two }}"),
        ("chat_template: '{{ own }} of twenty characters'", "{{ own }} of twenty characters"),
    ],
)
def test_chat_templates(tmp_path: Path, lines: str, text: str) -> None:
    for seed, (name, own) in enumerate((("base", "one"), ("a", "two"), ("b", "two"))):
        files = {"chat_template.jinja": b"{{ %s }}\n" % own.encode()}
        write(tmp_path / name, tokenizer_with(), seed=seed, files=files)
    plain = merged(tmp_path, "ab", "", "plain")
    assert (plain / "chat_template.jinja").read_bytes() == b"{{ one }}\n"
    out = merged(tmp_path, "ab", lines)
    assert (out / "chat_template.jinja").read_text() == text
    assert json.loads((out / "tokenizer_config.json").read_text())["chat_template"] == text
    assert (out / "generation_config.json").is_file()


def test_taking_a_model_out_of_a_union_leaves_no_trace(family: Path) -> None:
    out = merged(family, "abc", "tokenizer_source: union", method="mdm_oc")
    mdm_kit.unmerge(out, family / "rest", ["b"])
    never = merged(family, "ac", "tokenizer_source: union", "never", method="mdm_oc")
    assert bytes_of(family / "rest") == bytes_of(never)
    assert "<|b|>" not in ids_of(never)


def test_adding_to_a_union_is_a_union_of_all(family: Path) -> None:
    out = merged(family, "ab", "tokenizer_source: union", method="mdm_oc")
    mdm_kit.add(out, family / "more", [mdm_kit.Addition(f"{family}/c", "c", 0.5)])
    all_three = merged(family, "abc", "tokenizer_source: union", "all", method="mdm_oc")
    assert bytes_of(family / "more") == bytes_of(all_three)


@pytest.mark.parametrize("mode", ["exact", "subtract"])
def test_aligned_rows_are_not_patched(family: Path, mode: str) -> None:
    out = merged(family, "ab", "tokenizer_source: union", method="mdm_oc")
    with pytest.raises(UsageError, match="rows of its vocabulary may have been aligned"):
        mdm_kit.unmerge(out, family / "rest", ["b"], mode=mode)  # type: ignore[arg-type]


def test_rows_that_lie_as_the_base_has_them_can_be_patched(tmp_path: Path) -> None:
    for seed, name in enumerate(("base", "a", "b")):
        write(tmp_path / name, tokenizer_with(), seed=seed)
    out = merged(tmp_path, "ab", "tokenizer_source: base", method="mdm_oc")
    mdm_kit.unmerge(out, tmp_path / "rest", ["b"], mode="exact")
    assert set(read_model(tmp_path / "rest")) == set(read_model(out))


@pytest.mark.parametrize("word", ["base", "union"])
def test_kept_models_are_as_they_were(family: Path, word: str) -> None:
    lines = f"tokenizer_source: {word}\nledger: {{keep: deltas+base}}"
    out = merged(family, "ab", lines, method="mdm_oc")
    mdm_kit.extract(out, "b", family / "again")
    theirs = (family / "b" / "model.safetensors").read_bytes()
    assert (family / "again" / "model.safetensors").read_bytes() == theirs
    for name in ("a", "b", "base"):
        (family / name).rename(family / f"gone-{name}")
    mdm_kit.unmerge(out, family / "rest", ["b"])
    for name in ("a", "b", "base"):
        (family / f"gone-{name}").rename(family / name)
    merged(family, "a", lines, "never", method="mdm_oc")
    weights = [(family / n / "model.safetensors").read_bytes() for n in ("rest", "never")]
    assert weights[0] == weights[1]


def test_a_model_that_rows_come_from_stays(family: Path) -> None:
    lines = f'tokenizer: {{source: base, tokens: {{"<|b|>": {{source: {family}/b}}}}}}'
    out = merged(family, "ab", lines, method="mdm_oc")
    with pytest.raises(UsageError, match="takes rows or tokens from 'b'"):
        mdm_kit.unmerge(out, family / "rest", ["b"])
    mdm_kit.unmerge(out, family / "rest", ["a"])
    assert torch.equal(row_of(family / "rest", "<|b|>"), row_of(family / "b", "<|b|>"))


def test_models_in_many_tiles_and_threads_are_alike(family: Path) -> None:
    text = recipe(family, "abc", "tokenizer: {source: union, pad_to_multiple_of: 128}")
    for name, threads, memory in (("one", 1, 1 << 30), ("many", 4, 1)):
        mdm_kit.merge(
            mdm_kit.read_recipe(text), family / name, threads=threads, memory_nbytes=memory
        )
    assert bytes_of(family / "one") == bytes_of(family / "many")


def test_a_tokenizer_that_would_not_do_is_never_sealed(
    family: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = FolderSource.side_file

    def stale(self: FolderSource, name: str) -> bytes | None:
        data = honest(self, name)
        if name != "tokenizer.json" or data is None or not (family / ".out.mdm-partial").exists():
            return data
        return data.replace(b'"id": 300', b'"id": 299').replace(b"<|base|>", b"<|bass|>")

    monkeypatch.setattr(FolderSource, "side_file", stale)
    with pytest.raises(IntegrityError, match="should hold the tokens it had"):
        merged(family, "ab", "tokenizer_source: union")
    assert not (family / "out").exists()


def test_verify_rebuilds_a_union(family: Path) -> None:
    out = merged(family, "ab", "tokenizer_source: union", method="mdm_oc")
    assert mdm_kit.verify(out, deep=True).sound


def test_the_readmes_recipe(tmp_path: Path) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    text = readme.partition("# vocabularies.yml")[2].partition("```")[0].partition("\n")[2]
    special = {"base": [], "chat": ["<|im_start|>", "<|im_end|>"], "tools": ["<|call|>"]}
    for seed, (name, tokens) in enumerate(special.items()):
        files = {"chat_template.jinja": b"{{ chat }}"} if name == "chat" else {}
        write(tmp_path / name, tokenizer_with(tokens), seed=seed, files=files)
        text = text.replace(f"org/{name}", str(tmp_path / name))
    mdm_kit.merge(mdm_kit.read_recipe(text), tmp_path / "out")
    out = tmp_path / "out"
    assert {ids_of(out)[t] for t in ("<|im_end|>", "<|call|>", "<|think|>")} == {301, 302, 303}
    assert torch.equal(row_of(out, "<|think|>"), row_of(tmp_path / "base", "</s>"))
    assert torch.equal(row_of(out, "<|im_end|>"), row_of(tmp_path / "chat", "<|im_end|>"))
    assert (out / "chat_template.jinja").read_text() == "{{ chat }}"
    assert read_model(out)[EMBEDDING].shape == (320, 8)


def test_layers_of_models_with_different_tokens(family: Path) -> None:
    text = (
        "merge_method: passthrough\nslices:\n"
        f"  - sources: [{{model: {family}/base, layer_range: [0, 1]}}]\n"
        f"  - sources: [{{model: {family}/a, layer_range: [0, 2]}}]\n"
        "tokenizer_source: union\n"
    )
    mdm_kit.merge(mdm_kit.read_recipe(text), family / "out")
    for token, name in (("<|base|>", "base"), ("<|a|>", "a"), ("<|ab|>", "a")):
        for matrix in (EMBEDDING, HEAD):
            assert torch.equal(
                row_of(family / "out", token, matrix), row_of(family / name, token, matrix)
            )
    assert json.loads((family / "out" / "config.json").read_text())["num_hidden_layers"] == 3


def test_a_head_that_is_tied_is_aligned_with_one_that_is_not(family: Path) -> None:
    tokenizer = tokenizer_with(["<|tied|>"])
    made = tensors(301, 7)
    del made[HEAD]
    folder = write(family / "t", tokenizer, model=made)
    about = json.loads((folder / "config.json").read_text()) | {"tie_word_embeddings": True}
    (folder / "config.json").write_text(json.dumps(about))
    out = merged(family, "at", "tokenizer_source: union")
    for name in (EMBEDDING, HEAD):
        assert torch.equal(row_of(out, "<|tied|>", name), row_of(family / "t", "<|tied|>"))
        assert torch.equal(row_of(out, "<|a|>", name), row_of(family / "a", "<|a|>", name))
    known = [read_model(family / n) for n in ("base", "a", "t")]
    want = [m.get(HEAD, m[EMBEDDING])[:300].double() for m in known]
    torch.testing.assert_close(
        read_model(out)[HEAD][:300].double(), 0.5 * (want[1] + want[2]), rtol=1e-6, atol=1e-6
    )
