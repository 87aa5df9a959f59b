"""Loads the tokenizer that was written, as its users will, and tries it.

The only file that asks `tokenizers` and `transformers`; both are imported when they are needed, and
never run code that came with a model.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from mdm_kit.errors import IntegrityError
from mdm_kit.vocabulary.tokenizer_json import FILE
from mdm_kit.words import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from tokenizers import Tokenizer

    from mdm_kit.vocabulary.written import Written

SAMPLES = (
    "The quick brown fox jumps over the lazy dog.",
    "def f(x):\n    return x ** 2  # 3.14",
    "Größe, façade, naïve: 12,345.67 €",
    "日本語のテキスト и немного русского",
)
"""Texts whose ids must not change where only tokens were added."""
_NAMED = 5


def check_written(written: Written, folder: Path, before: Mapping[str, bytes]) -> None:
    """Load the tokenizer in `folder` and raise `IntegrityError` where it is not what was meant.

    Every added token must have its id, be found in a text and come back out of its id; texts
    without new tokens must give the ids they had with the files `before`, by name. What
    transformers could not load before, it need not load now.
    """
    if written.vocabulary is None or not (folder / FILE).is_file():
        return
    from tokenizers import Tokenizer

    text = (folder / FILE).read_text(encoding="utf-8")
    try:
        loaded = Tokenizer.from_str(text)
    except Exception as error:  # noqa: BLE001 -- the library raises bare exceptions
        raise _wrong(f"it cannot be loaded ({shown(str(error))})") from None
    ids, added = written.vocabulary.ids, written.vocabulary.added
    _check_ids(added, loaded.token_to_id, ids.get)
    _check_encoded(
        [t.content for t in added.values() if not t.single_word],
        lambda token: _encoded(loaded, token) or [],
        ids.get,
    )
    _check_decoded(
        [t.content for t in written.new if t.special and t.content.isascii()],
        lambda token: loaded.decode([ids[token]], skip_special_tokens=False),
    )
    if FILE in before:
        old = Tokenizer.from_str(before[FILE].decode())
        new = [t.content for t in written.new]
        for sample in (s for s in SAMPLES if not any(t in s for t in new)):
            if _encoded(old, sample) != _encoded(loaded, sample):
                raise _wrong(f"{sample!r} no longer has the ids it had")
    _check_in_transformers(written, folder, before)


def _check_in_transformers(written: Written, folder: Path, before: Mapping[str, bytes]) -> None:
    assert written.vocabulary is not None  # noqa: S101 -- asked by who calls
    found = _in_transformers(folder)
    if isinstance(found, Exception):
        with tempfile.TemporaryDirectory() as name:
            earlier = Path(name)
            for file in (n for n in before if "/" not in n):
                (earlier / file).write_bytes(before[file])
            if isinstance(_in_transformers(earlier), Exception):
                return  # a class of the model's own, which is never run here, or a newer one
        raise _wrong(f"transformers cannot load it ({shown(str(found))})")
    _check_ids(written.vocabulary.added, found.get, written.vocabulary.ids.get)


def _in_transformers(folder: Path) -> dict[str, int] | Exception:
    """Return the vocabulary of the tokenizer in a folder, or what loading it raises."""
    from transformers import AutoTokenizer

    try:
        loaded = AutoTokenizer.from_pretrained(
            str(folder), trust_remote_code=False, local_files_only=True
        )
    except Exception as error:  # noqa: BLE001 -- whatever goes wrong, its users would meet it
        return error
    ids: dict[str, int] = loaded.get_vocab()
    return ids


def _encoded(tokenizer: Tokenizer, text: str) -> list[int] | None:
    """Return a text's ids, None where it has a word that is unknown and nothing stands for it."""
    try:
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    except Exception:  # noqa: BLE001 -- the library raises bare exceptions
        return None
    return ids


def _check_decoded(tokens: Sequence[str], decoded: Callable[[str], str]) -> None:
    for token in tokens:
        if decoded(token).strip() != token.strip():
            raise _wrong(f"{shown(token, 60)!r} is decoded as {shown(decoded(token), 60)!r}")


def _check_ids(
    tokens: Iterable[str],
    found: Callable[[str], int | None],
    meant: Callable[[str], int | None],
) -> None:
    wrong = [(t, meant(t), found(t)) for t in tokens if meant(t) != found(t)]
    if wrong:
        listed = [f"{shown(t, 60)!r} is {got}, not {want}" for t, want, got in wrong[:_NAMED]]
        raise _wrong(f"{len(wrong)} token(s) have other ids: {', '.join(listed)}")


def _check_encoded(
    tokens: Sequence[str],
    encoded: Callable[[str], list[int]],
    meant: Callable[[str], int | None],
) -> None:
    wrong = [(t, got) for t in tokens if meant(t) not in (got := encoded(t))]
    if wrong:
        token, got = wrong[0]
        raise _wrong(
            f"{len(wrong)} added token(s) are not found in a text: {shown(token, 60)!r} becomes "
            f"{got[:_NAMED]}, not {meant(token)}"
        )


def _wrong(what: str) -> IntegrityError:
    return IntegrityError(
        f"the tokenizer that was written is not the one that was meant: {what}; nothing was "
        "sealed. Merge without the tokens that are added, or save the tokenizer anew first"
    )
