"""Which library loads a model and which task the Hub lists it under, from its files alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping

TRANSFORMERS = "transformers"
SENTENCE_TRANSFORMERS = "sentence-transformers"
_SPEECH = frozenset({"conv_dim", "num_mel_bins", "feat_extract_norm"})
"""Keys that only configs of models that hear have."""
_BY_ENDING = (
    ("ForCausalLM", "text-generation"),
    ("LMHeadModel", "text-generation"),
    ("ForMaskedLM", "fill-mask"),
    ("ForTokenClassification", "token-classification"),
    ("ForMultipleChoice", "multiple-choice"),
    ("ForImageTextToText", "image-text-to-text"),
    ("ForImageClassification", "image-classification"),
    ("ForObjectDetection", "object-detection"),
    ("ForSemanticSegmentation", "image-segmentation"),
    ("ForUniversalSegmentation", "image-segmentation"),
    ("ForDepthEstimation", "depth-estimation"),
    ("ForVideoClassification", "video-classification"),
    ("ForAudioClassification", "audio-classification"),
    ("ForCTC", "automatic-speech-recognition"),
    ("ForSpeechSeq2Seq", "automatic-speech-recognition"),
)
_CLOSED = {"clip": "zero-shot-image-classification", "siglip": "zero-shot-image-classification"}
"""Tasks of model types whose plain model has one."""


def library_of(side_files: Collection[str]) -> str:
    """Return the library that loads a model with these files beside its weights."""
    return SENTENCE_TRANSFORMERS if "modules.json" in side_files else TRANSFORMERS


def task_of(
    config: Mapping[str, object], side_files: Collection[str], agreed: str | None
) -> str | None:
    """Return the Hub's `pipeline_tag` of a model, None where nothing says it.

    `agreed` is what all its parents are listed under; it stands where the files leave it open.
    """
    if library_of(side_files) == SENTENCE_TRANSFORMERS:
        return agreed or "sentence-similarity"
    names = config.get("architectures")
    name = names[0] if isinstance(names, list) and names else ""
    return (_by_class(name, config) if isinstance(name, str) else None) or agreed


def _by_class(name: str, config: Mapping[str, object]) -> str | None:
    kind = config.get("model_type")
    if name.endswith("ForConditionalGeneration"):
        return _conditional(config)
    if name.endswith("ForSequenceClassification"):
        return "audio-classification" if _SPEECH & config.keys() else "text-classification"
    if name.endswith("ForQuestionAnswering"):
        return _answering(str(kind), config)
    if name.endswith("Model") and isinstance(kind, str) and kind in _CLOSED:
        return _CLOSED[kind]
    task = next((task for ending, task in _BY_ENDING if name.endswith(ending)), None)
    return task or ("feature-extraction" if name.endswith("Model") else None)


def _conditional(config: Mapping[str, object]) -> str | None:
    if config.get("model_type") == "whisper" or _SPEECH & config.keys():
        return "automatic-speech-recognition"
    sees, hears = "vision_config" in config, "audio_config" in config
    if sees and hears:
        return "any-to-any"
    if sees or hears:
        return "image-text-to-text" if sees else "audio-text-to-text"
    return "text2text-generation" if config.get("is_encoder_decoder") is True else None


def _answering(kind: str, config: Mapping[str, object]) -> str:
    if "layoutlm" in kind:
        return "document-question-answering"
    sees = "vision_config" in config or kind in ("vilt", "visual_bert")
    return "visual-question-answering" if sees else "question-answering"
