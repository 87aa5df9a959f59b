"""The task the Hub lists a model under, as its config says it."""

from __future__ import annotations

import pytest

from mdm_kit.bundle.hub_task import library_of, task_of

TASKS = [
    ({"architectures": ["LlamaForCausalLM"]}, "text-generation"),
    ({"architectures": ["GPT2LMHeadModel"]}, "text-generation"),
    ({"architectures": ["BertForMaskedLM"]}, "fill-mask"),
    ({"architectures": ["BertForSequenceClassification"]}, "text-classification"),
    (
        {"architectures": ["Wav2Vec2ForSequenceClassification"], "conv_dim": [512]},
        "audio-classification",
    ),
    ({"architectures": ["BertForTokenClassification"]}, "token-classification"),
    ({"architectures": ["BertForQuestionAnswering"]}, "question-answering"),
    (
        {"architectures": ["ViltForQuestionAnswering"], "model_type": "vilt"},
        "visual-question-answering",
    ),
    (
        {"architectures": ["LayoutLMv3ForQuestionAnswering"], "model_type": "layoutlmv3"},
        "document-question-answering",
    ),
    ({"architectures": ["ViTForImageClassification"]}, "image-classification"),
    ({"architectures": ["CLIPModel"], "model_type": "clip"}, "zero-shot-image-classification"),
    ({"architectures": ["BertModel"], "model_type": "bert"}, "feature-extraction"),
    (
        {"architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": True},
        "text2text-generation",
    ),
    (
        {
            "architectures": ["WhisperForConditionalGeneration"],
            "model_type": "whisper",
            "is_encoder_decoder": True,
        },
        "automatic-speech-recognition",
    ),
    (
        {"architectures": ["Gemma3ForConditionalGeneration"], "vision_config": {}},
        "image-text-to-text",
    ),
    (
        {"architectures": ["Qwen2AudioForConditionalGeneration"], "audio_config": {}},
        "audio-text-to-text",
    ),
    (
        {"architectures": ["XForConditionalGeneration"], "audio_config": 1, "vision_config": 1},
        "any-to-any",
    ),
    ({"architectures": ["Wav2Vec2ForCTC"]}, "automatic-speech-recognition"),
]


@pytest.mark.parametrize(("config", "task"), TASKS)
def test_the_class_says_the_task(config: dict[str, object], task: str) -> None:
    assert task_of(config, ["config.json"], "something-else") == task
    assert library_of(["config.json"]) == "transformers"


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"architectures": None},
        {"architectures": []},
        {"architectures": [7]},
        {"architectures": "LlamaForCausalLM"},
        {"architectures": ["Odd"]},
        {"architectures": ["XForConditionalGeneration"], "is_encoder_decoder": "yes"},
    ],
)
def test_what_all_parents_say_stands_where_the_config_says_nothing(
    config: dict[str, object],
) -> None:
    assert task_of(config, [], "fill-mask") == "fill-mask"
    assert task_of(config, [], None) is None


def test_sentence_transformers_are_told_by_their_modules() -> None:
    files = ["config.json", "modules.json"]
    config = {"architectures": ["BertModel"]}
    assert library_of(files) == "sentence-transformers"
    assert task_of(config, files, None) == "sentence-similarity"
    assert task_of(config, files, "feature-extraction") == "feature-extraction"
