"""Vocabularies: which token has which id, in each model and in the result.

They are read from the small files beside the weights, as data: nothing of a model is run. What a
model lacks a row for gets one by a rule (`filling`), and `sources.aligned` offers the rows in the
result's order. `loading` is the only file that asks `tokenizers` and `transformers`, of what was
written.
"""

from mdm_kit.vocabulary.chat_templates import named_template, template_of
from mdm_kit.vocabulary.filling import Fill, Filling, Owner
from mdm_kit.vocabulary.joining import Joined, joined
from mdm_kit.vocabulary.reading import has_tokenizer, read_vocabulary
from mdm_kit.vocabulary.vocabulary import AddedToken, Vocabulary
from mdm_kit.vocabulary.written import Written, written_files

__all__ = [
    "AddedToken",
    "Fill",
    "Filling",
    "Joined",
    "Owner",
    "Vocabulary",
    "Written",
    "has_tokenizer",
    "joined",
    "named_template",
    "read_vocabulary",
    "template_of",
    "written_files",
]
