"""Secrets are found wherever they stand, and nothing that is none is taken for one."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdm_kit.cli.main import main
from mdm_kit.errors import MdmError, UsageError
from mdm_kit.secrets import MAX_EXPOSURES, REDACTED, Exposure, findings_in, redacted

# Made of pieces: this repository holds no string that looks like a secret.
R = "Zq8wXk2LmV5tRb7YcN3dGh6JsP4fTa9Ue1oKi0MvBnQxCzWy"
UPPER = "QWERTY2345UIOPAS"
JWT = ".".join(("eyJ" + R[:20], "eyJ" + R[5:40], R[3:46]))
HEAD = "-----BEGIN {}" + "PRIVATE KEY-----"
TAIL = "-----END {}" + "PRIVATE KEY-----"

SECRETS = {
    "hugging face": "hf" + "_" + R[:34],
    "hugging face, letters": "hf" + "_" + "AbCdEfGhIjKlMnOpQrStUvWxYzAbCdEfGh",
    "hugging face organisation": "api_org" + "_" + R[:34],
    "github": "ghp" + "_" + R[:36],
    "github app": "ghs" + "_" + R[:36],
    "github, fine-grained": "github" + "_pat_" + R[:22] + "_" + R + R[:11],
    "gitlab": "glpat" + "-" + R[:20],
    "openai, old": "sk" + "-" + R,
    "openai": "sk" + "-proj-" + R,
    "anthropic": "sk" + "-ant-api03-" + R + "-" + R + "AA",
    "aws id": "AKIA" + UPPER,
    "google": "AIza" + "Sy" + R[:33],
    "google oauth": "ya29" + "." + R,
    "slack": "xoxb" + "-123456789012-" + R[:24],
    "npm": "npm" + "_" + R[:36],
    "pypi": "pypi" + "-AgEIcHlwaS5vcmc" + R + R,
    "json web token": JWT,
}
"""Stand alone: the whole of it goes."""

IN_CONTEXT = {
    "Authorization: Bearer {}": R,
    "authorization: bearer {}": R[:20].lower(),
    '{{"Authorization": "Basic {}"}}': base64.b64encode(b"someone:something1").decode(),
    "'authorization': 'Bearer {}', 'x': 1": "letters.only_and-no_digit",
    "sent with bearer {} and refused": R,
    "X-Xet-Access-Token: {}": R,
    "aws_secret_access_key = {}": R[:40],
    'AWS_SECRET_ACCESS_KEY="{}"': R[:38] + "/+",
    "https://{}@host.example/x": "someone:pass-word",
    "http://{}@127.0.0.1:8080": "a:b",
    "https://h/x?X-Amz-Date=1&X-Amz-Signature={}&y=2": hashlib.sha256(b"").hexdigest(),
    "https://h/x?X-Amz-Security-Token={}": R,
    "https://h/x?response=a&Policy={}": R + "__",
    "https://h/x?a=1&Signature={}&Key-Pair-Id=x": R + "~",
    "https://h/x?a&Key-Pair-Id={}": "K" + UPPER,
    "https://h/x?se=2026&sig={}": R[:40] + "%3D",
    "a\\u0026Signature={}": R,
    "https://h/api?token={}": R,
    "https://hooks.slack.com/services/{}": "T0001/B0001X/" + R[:24],
    "key:\n{}\nend": HEAD.format("RSA ") + "\nMIIE\nabc=\n" + TAIL.format("RSA "),
    "key: {}": HEAD.format("") + "\\nMIIE" + R,
}
"""Are secrets because of what stands beside them."""

HARMLESS = {
    "sha256": "sha256:" + hashlib.sha256(b"x").hexdigest(),
    "blake3": "blake3:" + hashlib.sha256(b"y").hexdigest(),
    "commit": "org/model@" + hashlib.sha1(b"z").hexdigest(),  # noqa: S324
    "uuid": "task-123e4567-e89b-12d3-a456-426614174000",
    "a long name": "task-specific-instruction-following-adapter-v1-for-disk-sk-tests",
    "a hash in a name": "disk-" + hashlib.md5(b"q").hexdigest(),  # noqa: S324
    "functions": "hf_hub_download hf_transfer HF_TOKEN npm_config_registry gho_st",
    "words": "risk-adjusted sk-learn AKIA ASIA eyJ AIza Bearer bearer: authorization required",
    "prose": "the bearer authentication-is-required-by-this-server, and its authorization "
    "authorization=required_for_download",
    "addresses": "https://host:8080/a/b@main?x=1&token=short http://[::1]:80/ git@host:owner/repo",
    "a placeholder": "Authorization: Bearer $HF_TOKEN, or Bearer <token>",
    "a mail": "someone@example.org",
    "a key that is public": "-----BEGIN PUBLIC KEY-----\nMIIE",
    "base64": base64.b64encode(bytes(range(256))).decode(),
    "redacted": f"https://{REDACTED}@host and Authorization: Bearer {REDACTED}",
    "other folders": "/usr/lib/python3/dist-packages ~/x ./y C:\\Windows\\System32",
    "text of the world": "Größe 東京 \u202e🙂 \udc80 {{ messages[0]['role'] }}",
}


@pytest.fixture(autouse=True)
def _home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/alice")


@pytest.mark.parametrize("name", SECRETS)
def test_what_is_a_secret(name: str) -> None:
    secret = SECRETS[name]
    assert redacted(f"got {secret}, stop") == f"got {REDACTED}, stop"
    assert redacted(json.dumps({"x": secret})) == json.dumps({"x": REDACTED})
    found = findings_in("a.txt", f"one\ntwo {secret}\n".encode())
    assert {(f.name, f.line, f.column) for f in found} == {("a.txt", 2, 5)}
    assert secret not in repr(found)


@pytest.mark.parametrize("context", IN_CONTEXT)
def test_what_is_a_secret_where_it_stands(context: str) -> None:
    text = context.format(IN_CONTEXT[context])
    clean = redacted(text)
    assert IN_CONTEXT[context] not in clean
    assert REDACTED in clean
    assert clean.startswith(context.format("")[:4])
    assert findings_in("a", text.encode())
    assert redacted(clean) == clean


@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_no_secret(name: str) -> None:
    text = HARMLESS[name]
    assert redacted(text) is text
    assert findings_in("a", text.encode("utf-8", "surrogatepass")) == []


def test_a_place_says_kind_line_and_column() -> None:
    text = f"Größe: {SECRETS['github']} {SECRETS['npm']}\r\n\n {SECRETS['slack']}"
    assert [str(f) for f in findings_in("notes.md", text.encode())] == [
        "notes.md, line 1, column 8: a GitHub token",
        "notes.md, line 1, column 49: an npm token",
        "notes.md, line 3, column 2: a Slack token",
    ]
    assert findings_in("x", b"") == []
    assert len(findings_in("x", (SECRETS["npm"] + "\n").encode() * 500)) == MAX_EXPOSURES


def test_the_token_in_use_has_any_form() -> None:
    assert redacted("it is pass phrase.", "pass phrase") == f"it is {REDACTED}."
    assert findings_in("x", b"\xffit is pass phrase", token="pass phrase") == [  # noqa: S106
        Exposure("x", "the token in use", 1, 8)
    ]
    assert redacted("a short one", "short") == "a short one"
    assert redacted("none", "") == "none"


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("in /home/alice/models", "in ~/models"),
        ("'/home/alice'", "'~'"),
        ("in /home/alice.", "in ~."),
        ("file:///home/alice/x", "file://~/x"),
        (r"\home\alice\x", r"~\x"),
        (r"\\home\\alice\\x", r"~\\x"),
        ("/home/alicent /home/alice-2 /x/home/alice ~/home/alice /home/alice.old", None),
    ],
)
def test_the_home_folder(text: str, clean: str | None) -> None:
    assert redacted(text) == (text if clean is None else clean)
    assert bool(findings_in("x", text.encode())) == (clean is not None)


def test_a_home_at_the_top_is_a_word_unless_something_follows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", "/root")
    assert redacted('"/root" and /root/x') == '"/root" and ~/x'
    for none in ("/", "", "relative"):
        monkeypatch.setenv("HOME", none)
        assert redacted("/a relative /b") == "/a relative /b"


def test_folders_of_this_machine() -> None:
    data = b'{"a": "/srv/models/base/config.json", "b": "/srv/models/base-2"}'
    assert [f.column for f in findings_in("x", data, paths=["/srv/models/base"])] == [8]
    assert findings_in("x", "/srv/größe/x".encode(), paths=["/srv/größe/"])


anywhere = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
apart = st.text(st.characters(exclude_categories=["Cs", "L", "N"]), max_size=3).map(
    lambda t: t if not t or t[-1] not in "_-" else t + " "
)


@settings(deadline=None)
@given(anywhere, apart, st.sampled_from(sorted(SECRETS)), apart, anywhere)
def test_a_secret_is_found_in_any_surrounding(
    before: str, gap: str, name: str, end: str, after: str
) -> None:
    secret = SECRETS[name]
    text = f"{before}{gap or ' '}{secret}{end or ' '}{after}"
    assert secret not in redacted(text)
    assert findings_in("x", text.encode())


@settings(deadline=None)
@given(anywhere, st.sampled_from([n for n in SECRETS if "hugging" in n or "github" in n]), anywhere)
def test_some_are_found_even_in_the_middle_of_a_word(before: str, name: str, after: str) -> None:
    assert SECRETS[name] not in redacted(before + SECRETS[name] + after)


SIGNS = "hf_ sk- :// : @ Bearer Authorization: ?sig= /home/alice /home / eyJ -----BEGIN & = [ ]"
pieces = st.sampled_from(
    [
        *SECRETS.values(),
        *(c.format(s) for c, s in IN_CONTEXT.items()),
        *HARMLESS.values(),
        *SIGNS.split(),
        "PRIVATE KEY-----",
        REDACTED,
        " ",
        "\n",
    ]
)


@settings(deadline=None)
@given(st.lists(pieces | anywhere, max_size=8).map("".join))
def test_redacting_again_changes_nothing(text: str) -> None:
    once = redacted(text)
    assert redacted(once) == once
    assert findings_in("x", once.encode("utf-8", "surrogatepass")) == []
    if not findings_in("x", text.encode("utf-8", "surrogatepass")):
        assert once == text


def tokenizer(nbytes: int) -> bytes:
    """What a large tokenizer.json and a base64 vocabulary hold, of this size together."""
    draw = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:;&?=@\\ĠéКмя東"
    words = ["".join(draw.choices(letters, k=draw.randint(1, 14))) for _ in range(20000)]
    words += ["sk-", "hf_", "://", "eyJ", "AKIA", "/root", "/home", "-----BEGIN", "Authorization"]
    vocabulary = "\n".join(f'      "{w}": {i},' for i, w in enumerate(words))
    base = "\n".join(
        f"{base64.b64encode(draw.randbytes(draw.randint(1, 60))).decode()} {i}"
        for i in range(20000)
    )
    once = f"{vocabulary}\n{base}\n".encode()
    return (once * (nbytes // len(once) + 1))[:nbytes]


def test_a_tokenizer_trips_nothing_and_takes_seconds() -> None:
    data = tokenizer(30_000_000)
    start = time.perf_counter()
    assert findings_in("tokenizer.json", data, paths=["/srv/models"]) == []
    assert time.perf_counter() - start < 15  # about 1.5 s alone on one core


@pytest.mark.parametrize(
    "sign", ["sk-", "eyJ", "://", "-----BEGIN ", "bearer ", "&sig=", "glpat-", "authorization"]
)
def test_text_made_to_be_slow_is_not(sign: str) -> None:
    start = time.perf_counter()
    redacted(sign * (1_000_000 // len(sign)))
    assert time.perf_counter() - start < 15


def test_an_error_is_born_without_secrets() -> None:
    secret = SECRETS["hugging face"]
    for kind in (MdmError, UsageError):
        assert str(kind(f"{secret} in /home/alice/x")) == f"{REDACTED} in ~/x"
    assert str(MdmError()) == ""


def test_the_command_line_prints_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = SECRETS["hugging face"]
    recipe = tmp_path / "recipe.yml"
    recipe.write_text(f"merge_method: linear\nmodels: [{{model: ./{secret}}}]\n")
    calls = [["plan", str(recipe)], ["plan", str(recipe), "--json"], ["plan", f"--{secret}"]]
    for call in [*calls, [secret]]:
        assert main(call)
        said = capsys.readouterr()
        assert secret not in said.out + said.err
        assert REDACTED in said.out + said.err

    def broken(recipe: object) -> None:
        raise ValueError(secret)

    monkeypatch.setattr("mdm_kit.api.plan", lambda *_, **__: broken(None))
    for debug in ("", "1"):
        monkeypatch.setenv("MDM_KIT_DEBUG", debug)
        assert main(["plan", str(recipe)]) == 1
        said = capsys.readouterr().err
        assert secret not in said
        assert ("Traceback" in said) == bool(debug)
