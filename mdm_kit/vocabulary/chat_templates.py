"""Chat templates: found among a model's files, known by name, written into files. Never rendered.

The named ones put down in Jinja what the formats' makers document; `bos_token` and `eos_token` are
the tokenizer's own.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from mdm_kit.vocabulary.tokenizer_json import loaded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mdm_kit.sources import Source

JINJA: Final = "chat_template.jinja"
CONFIG: Final = "tokenizer_config.json"
LEGACY: Final = "chat_template.json"
_KEY: Final = "chat_template"
_DEFAULT: Final = "default"

_ALPACA = """\
{{ bos_token }}{% for message in messages %}
{%- if message['role'] == 'system' %}{{ message['content'] + '\\n\\n' }}
{%- elif message['role'] == 'user' %}{{ '### Instruction:\\n' + message['content'] + '\\n\\n' }}
{%- elif message['role'] == 'assistant' %}{{ '### Response:\\n' + message['content'] + eos_token \
+ '\\n\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '### Response:\\n' }}{% endif %}"""

_CHATML = """\
{% for message in messages %}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

_EXAONE = """\
{% for message in messages %}
{%- if loop.first and message['role'] != 'system' %}{{ '[|system|][|endofturn|]\\n' }}{% endif %}
{{- '[|' + message['role'] + '|]' + message['content'] }}
{%- if message['role'] == 'user' %}{{ '\\n' }}{% else %}{{ '[|endofturn|]\\n' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '[|assistant|]' }}{% endif %}"""

_LLAMA3 = """\
{{ bos_token }}{% for message in messages %}
{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
{{- message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"""

_MISTRAL = """\
{{ bos_token }}{% for message in messages %}
{%- if message['role'] == 'assistant' %}{{ ' ' + message['content'] | trim + eos_token }}
{%- elif message['role'] == 'system' %}{{ '[INST] ' + message['content'] + '\\n\\n' }}
{%- elif loop.index0 > 0 and messages[loop.index0 - 1]['role'] == 'system' %}\
{{ message['content'] + ' [/INST]' }}
{%- else %}{{ '[INST] ' + message['content'] + ' [/INST]' }}
{%- endif %}
{%- endfor %}"""

_NAMED: Final = {
    "alpaca": _ALPACA,
    "chatml": _CHATML,
    "exaone": _EXAONE,
    "llama3": _LLAMA3,
    "mistral": _MISTRAL,
}


def named_template(name: str) -> str | None:
    """Return the template of that name, None if there is none."""
    return _NAMED.get(name)


def template_of(source: Source) -> str | None:
    """Return a model's chat template as it is written, None if it has none.

    Of several named ones that called `default`. Raises `IntegrityError` for a file that is no JSON.
    """
    if (data := source.side_file(JINJA)) is not None:
        return data.decode("utf-8", "replace")
    for name in (CONFIG, LEGACY):
        data = source.side_file(name)
        text = None if data is None else _text(loaded(source.name, name, data).get(_KEY))
        if text is not None:
            return text
    return None


def with_template(who: str, files: Mapping[str, bytes], text: str) -> dict[str, bytes]:
    """Return a model's files with `text` as their chat template, wherever they hold one.

    Templates under other names stay.
    """
    changed = {**files, JINJA: text.encode()}
    for name in (CONFIG, LEGACY):
        if name in files:
            config = loaded(who, name, files[name])
            config[_KEY] = _replaced(config.get(_KEY), text)
            changed[name] = (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode()
    return changed


def _text(stated: object) -> str | None:
    if isinstance(stated, list):
        named = [e for e in stated if isinstance(e, dict) and e.get("name") == _DEFAULT]
        stated = named[0].get("template") if named else None
    if isinstance(stated, dict):
        stated = stated.get(_DEFAULT)
    return stated if isinstance(stated, str) else None


def _replaced(stated: object, text: str) -> Any:
    if isinstance(stated, list):
        others = [e for e in stated if not (isinstance(e, dict) and e.get("name") == _DEFAULT)]
        return [{"name": _DEFAULT, "template": text}, *others]
    if isinstance(stated, dict):
        return {**stated, _DEFAULT: text}
    return text
