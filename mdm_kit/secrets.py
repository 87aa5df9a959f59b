"""Finds tokens, keys and paths of this machine in text, to take them out or to refuse the text.

A secret is looked for by the few signs all of its kind begin with, and only there by its whole
form, so that a tokenizer of 30 MB is scanned in two seconds. The patterns are those the issuers and
scanners document; hex digests and base64 vocabularies match none of them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

REDACTED = "[redacted]"
MAX_EXPOSURES = 100
"""Nobody reads more of them."""
_MIN_LITERAL = 8
"""A token shorter than this would be found in ordinary words."""
_PATH = "a path of this machine"
_BEGINS = re.compile(r"[\w.~-]", re.ASCII)
"""What stands before a path's first character where that is in the middle of another."""
_END = re.compile(r"(?!\w|[.-]\w)", re.ASCII)
_GOES_ON = re.compile(r"(?:/|\\{1,2})\w", re.ASCII)


@dataclass(frozen=True, slots=True)
class Exposure:
    """Something that must not be published: what it is and where, never what it says.

    `line` and `column` count from 1, columns in characters.
    """

    name: str
    kind: str
    line: int
    column: int

    def __str__(self) -> str:
        """Return `README.md, line 3, column 7: a Hugging Face token`."""
        return f"{self.name}, line {self.line}, column {self.column}: {self.kind}"


@dataclass(frozen=True, slots=True)
class _Form:
    """A kind of secret: the signs it begins with, and its form from there on.

    The group `secret` is what must go, the whole match where there is none. `folded` signs are
    written in lower case here and found in any.
    """

    kind: str
    signs: tuple[str, ...]
    pattern: re.Pattern[str]
    folded: bool = False


def _form(kind: str, signs: str, pattern: str, *, folded: bool = False) -> _Form:
    flags = re.ASCII | (re.IGNORECASE if folded else 0)
    return _Form(kind, tuple(signs.split()), re.compile(pattern, flags), folded)


_ASSIGNED = r"[\"']?\s{0,8}(?:=>|[:=])\s{0,8}[\"']?"
_ALONE = r"(?<![A-Za-z0-9])"
_TOKEN = r"[A-Za-z0-9._~+/=-]"  # noqa: S105 -- RFC 6750's token68, a set of characters
_SIGNED = (
    "signature= credential= security-token= sig= policy= key-pair-id= awsaccesskeyid= "
    "access_token= token= api_key="
)
"""Parameters of signed addresses; those of AWS, Google and Xet have a name before, and a hyphen."""
_DIGIT = r"[A-Za-z._~+/=-]{0,200}[0-9]"
"""Tells a token from a word where nothing else does."""
_KEY = r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"

_FORMS = (
    _form("a Hugging Face token", "hf_ api_org_", r"(?:hf|api_org)_[A-Za-z0-9]{30,}"),
    _form("a GitHub token", "ghp_ gho_ ghu_ ghs_ ghr_", r"gh[pousr]_[A-Za-z0-9]{30,}"),
    _form("a GitHub token", "github_pat_", r"github_pat_\w{36,}"),
    _form(
        "a GitLab token",
        "glpat- glptt- gldt- glrt- glcbt- glsoat- gloas- glft- glagent- glimt- glffct-",
        r"gl[a-z]{2,5}-(?=[a-zA-Z_-]{0,60}[0-9])[A-Za-z0-9_-]{20,}",
    ),
    _form(
        "an API key (sk-...)",
        "sk-",
        _ALONE
        + r"sk-(?:(?:proj|svcacct|admin|None|ant|or|lf)-[A-Za-z0-9_-]{20,}|[A-Za-z0-9]{32,})",
    ),
    _form(
        "an AWS access key id",
        "AKIA ASIA ABIA ACCA",
        _ALONE + r"A(?:KI|SI|BI|CC)A[A-Z2-7]{16}(?![A-Za-z0-9])",
    ),
    _form(
        "an AWS secret key",
        "secret_access_key secretaccesskey session_token",
        rf"(?:secret_?access_?key|session_token){_ASSIGNED}(?P<secret>[A-Za-z0-9/+=]{{40,}})",
        folded=True,
    ),
    _form("a Google API key", "AIza", r"AIza[\w-]{35,}"),
    _form("a Google OAuth token", "ya29. GOCSPX-", r"(?:ya29\.|GOCSPX-)[\w-]{24,}"),
    _form(
        "a Slack token",
        "xoxa- xoxb- xoxe- xoxo- xoxp- xoxr- xoxs- xapp-",
        r"x(?:ox[abeoprs]|app)-[0-9][A-Za-z0-9-]{15,}",
    ),
    _form(
        "a Slack web hook",
        "hooks.slack.com/services/",
        r"hooks\.slack\.com/services/(?P<secret>T[A-Za-z0-9]{4,}/B[A-Za-z0-9]{4,}/[A-Za-z0-9]{16,})",
    ),
    _form("an npm token", "npm_", r"npm_[A-Za-z0-9]{36,}"),
    _form("a PyPI token", "pypi-AgE", r"pypi-AgE[\w-]{50,}"),
    _form("a JSON web token", "eyJ", r"eyJ[\w-]{10,500}+\.eyJ[\w-]{10,4000}+\.[\w-]{10,}"),
    _form(
        "a private key",
        "-----BEGIN ",
        _KEY + r"(?s:.*?)(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|\Z)",
    ),
    _form(
        "an authorization header",
        "authorization",
        rf"authorization{_ASSIGNED}(?:(?:bearer|basic|token)\s{{1,8}}|(?={_DIGIT}))"
        rf"(?P<secret>{_TOKEN}{{16,}})",
        folded=True,
    ),
    _form(
        "a bearer token",
        "bearer",
        rf"bearer\s{{1,8}}(?={_DIGIT})(?P<secret>{_TOKEN}{{20,}})",
        folded=True,
    ),
    _form(
        "an access token",
        "access-token",
        rf"access-token{_ASSIGNED}(?P<secret>{_TOKEN}{{16,}})",
        folded=True,
    ),
    _form(
        "a password in an address",
        "://",
        r"://(?P<secret>[^\s/?#@:\"'<>\\\[\]\x80-\xff]{0,256}:[^\s/?#@\"'<>\\\[\]\x80-\xff]{1,256})@",
    ),
    _form(
        "the signature of an address",
        _SIGNED,
        r"(?:(?<=[?&;-])|(?<=u0026))[a-z_-]{3,16}=(?P<secret>[A-Za-z0-9._~+/%=-]{16,})",
        folded=True,
    ),
)


def redacted(text: str, token: str | None = None) -> str:
    """Return `text` with every secret, the given token and the home folder taken out.

    Text that holds none is returned as it is, and what was redacted stays so when it is redacted
    again. The home folder becomes `~`.
    """
    while True:
        view = _encoded(text)
        spans = [*_secrets(view, token), *_paths(view, [_home()])]
        if not spans:
            return text
        text = _without(view, spans).encode("latin-1").decode("utf-8", "surrogatepass")


def findings_in(
    name: str, data: bytes, *, token: str | None = None, paths: Sequence[str] | None = ()
) -> list[Exposure]:
    """Return what must not be published in a text file, in the order it stands there.

    `token` is one more secret to look for, whatever its form: the one in use. `paths` are absolute
    folders of this machine that must not be named; the home folder is always one, but for None: a
    stranger's file may name a stranger's. Returns the first `MAX_EXPOSURES`. Takes under 2 s for
    30 MB.
    """
    view = data.decode("latin-1")
    places = [] if paths is None else [_home(), *paths]
    spans = [*_secrets(view, token), *_paths(view, places)]
    first = sorted({(start, kind) for start, _, kind in spans})[:MAX_EXPOSURES]
    return [Exposure(name, kind, *_place(data, start)) for start, kind in first]


def _home() -> str:
    return os.path.expanduser("~")  # noqa: PTH111 -- pathlib raises where there is none


def _encoded(text: str) -> str:
    """Return the text's bytes as one character each, as a file is searched: patterns are ASCII."""
    return text.encode("utf-8", "surrogatepass").decode("latin-1")


def _place(data: bytes, at: int) -> tuple[int, int]:
    begin = data.rfind(b"\n", 0, at) + 1
    return data.count(b"\n", 0, at) + 1, len(data[begin:at].decode("utf-8", "replace")) + 1


def _secrets(view: str, token: str | None) -> Iterator[tuple[int, int, str]]:
    """Yield begin, end and kind of every secret."""
    lower = view.lower()
    for form in _FORMS:
        for sign in form.signs:
            yield from _of_form(form, sign, view, lower if form.folded else view)
    if token and len(token) >= _MIN_LITERAL and token not in REDACTED:
        for start, end in _literal(view, _encoded(token)):
            yield start, end, "the token in use"


def _of_form(form: _Form, sign: str, view: str, where: str) -> Iterator[tuple[int, int, str]]:
    at = where.find(sign)
    while at >= 0:
        found = form.pattern.match(view, at)
        after = at + 1
        if found:
            group = "secret" if form.pattern.groupindex else 0
            yield found.start(group), found.end(group), form.kind
            after = found.end()
        at = where.find(sign, after)


def _literal(view: str, literal: str) -> Iterator[tuple[int, int]]:
    at = view.find(literal)
    while at >= 0:
        yield at, at + len(literal)
        at = view.find(literal, at + len(literal))


def _paths(view: str, paths: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    """Yield where a folder is named, however its separators are written, and not a longer name."""
    for path in paths:
        parts = [p for p in re.split(r"[/\\]+", _encoded(path)) if p]
        if not os.path.isabs(path) or not parts:  # noqa: PTH117 -- text, not a path yet
            continue
        lead = path[:1] if path[:1] in "/\\" else ""
        # A folder at the top, such as /root, is a word of vocabularies unless something follows it.
        ends = _END if len(parts) > 1 else _GOES_ON
        for separator in ("/", "\\", "\\\\"):
            written = (separator if lead else "") + separator.join(parts)
            for start, end in _literal(view, written):
                if _BEGINS.search(view, max(0, start - 1), start) is None and ends.match(view, end):
                    yield start, end, _PATH


def _without(view: str, spans: Sequence[tuple[int, int, str]]) -> str:
    """Return the text with `REDACTED` for each stretch of secrets and `~` for the home folder."""
    pieces, at = [], 0
    for start, end, home in _joined(spans):
        pieces += [view[at:start], "~" if home else REDACTED]
        at = end
    return "".join([*pieces, view[at:]])


def _joined(spans: Sequence[tuple[int, int, str]]) -> list[tuple[int, int, bool]]:
    joined: list[tuple[int, int, bool]] = []
    for start, end, kind in sorted(spans):
        home = kind == _PATH
        if joined and start < joined[-1][1]:
            begin, before, was_home = joined[-1]
            joined[-1] = (begin, max(before, end), was_home and home)
        else:
            joined.append((start, end, home))
    return joined
