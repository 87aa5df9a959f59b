"""Where one model stands inside another, by names and shapes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mdm_kit.planner.towers import Rule, Shapes, matching

LAYER = {
    "self_attn.q_proj.weight": (8, 8),
    "mlp.up_proj.weight": (12, 8),
    "input_layernorm.weight": (8,),
}


def stack(prefix: str, n: int = 3, layer: Shapes = LAYER) -> dict[str, tuple[int, ...]]:
    return {f"{prefix}layers.{i}.{name}": shape for i in range(n) for name, shape in layer.items()}


def text(prefix: str = "model.", head: str = "lm_head.weight") -> dict[str, tuple[int, ...]]:
    outside = {f"{prefix}embed_tokens.weight": (20, 8), f"{prefix}norm.weight": (8,)}
    return {**outside, **stack(prefix), head: (20, 8)}


def vision(prefix: str, width: int = 6) -> dict[str, tuple[int, ...]]:
    layer = {
        "self_attn.q_proj.weight": (width, width),
        "mlp.up_proj.weight": (12, width),
        "input_layernorm.weight": (width,),
    }
    return {
        f"{prefix}patch_embedding.weight": (width, 3),
        **stack(f"{prefix}encoder.", 2, layer),
        f"{prefix}norm.weight": (width,),
    }


WRAPPED = {
    "old": (text("language_model.model.", "language_model.lm_head.weight"), "vision_tower."),
    "new": (text("model.language_model.", "lm_head.weight"), "model.visual."),
    "flat": (text(), "visual."),
    "text_model": (text("text_model.", "text_model.lm_head.weight"), "vision_model."),
}


@pytest.mark.parametrize("width", [6, 8])
@pytest.mark.parametrize("style", WRAPPED)
def test_a_text_model_is_found_in_a_model_of_two_towers(style: str, width: int) -> None:
    """Also where the other tower's layers have the very same shapes."""
    part, prefix = WRAPPED[style]
    whole = {**vision(prefix, width), "projector.weight": (8, width), **part}
    own = text() if style != "text_model" else text("", "lm_head.weight")
    found = matching(own, whole)
    assert found is not None
    assert found.names == dict(zip(own, part, strict=True))
    lacked = whole.keys() - part.keys()
    assert found.beside(lacked, other=True)
    back = matching(whole, own)
    assert back is not None
    assert back.names == dict(zip(part, own, strict=True))
    assert back.beside(lacked, other=False)


def test_two_ways_to_name_the_same_towers_are_one_model() -> None:
    old = {**WRAPPED["old"][0], **vision("vision_tower."), "projector.linear.weight": (8, 6)}
    new = {**WRAPPED["new"][0], **vision("model.vision_tower.")}
    new["model.projector.linear.weight"] = (8, 6)
    found = matching(old, new)
    assert found is not None
    assert found.names == dict(zip(old, new, strict=True))


def test_layers_that_fit_two_towers_alike_fit_neither() -> None:
    whole = {**stack("question.encoder."), **stack("answer.encoder.")}
    assert matching(stack("encoder."), whole) is None


def test_shapes_decide_between_towers_of_the_same_names() -> None:
    narrow = {name: tuple(n // 2 for n in shape) for name, shape in LAYER.items()}
    whole = {**stack("a.encoder.", layer=narrow), **stack("b.encoder.")}
    found = matching(stack("encoder."), whole)
    assert found is not None
    assert found.rules == (Rule("", "b."),)


def test_an_embedding_of_more_rows_stays_with_its_tower() -> None:
    whole = {**text("language_model.model.", "language_model.lm_head.weight")}
    whole["language_model.model.embed_tokens.weight"] = (24, 8)
    found = matching(text(), whole)
    assert found is not None
    assert found.names["model.embed_tokens.weight"] == "language_model.model.embed_tokens.weight"


@pytest.mark.parametrize(
    "gone",
    [
        lambda n: n.startswith("model.language_model.layers.2."),
        lambda n: n.endswith("mlp.up_proj.weight"),
        lambda n: n == "model.language_model.norm.weight",
    ],
)
def test_what_lacks_inside_the_tower_is_not_beside_it(gone: Callable[[str], bool]) -> None:
    whole = {**vision("model.visual."), **WRAPPED["new"][0]}
    there = [name for name in WRAPPED["new"][0] if not gone(name)]
    own = {n.replace("model.language_model.", "model."): whole[n] for n in there}
    found = matching(own, whole)
    assert found is not None
    left = whole.keys() - found.names.values()
    assert any(map(gone, left))
    assert not found.beside(left, other=True)


def test_a_head_alone_is_no_tower() -> None:
    own = text()
    del own["lm_head.weight"]
    found = matching(own, text())
    assert found is not None
    assert not found.beside(["lm_head.weight"], other=True)


@pytest.mark.parametrize("own", [{}, {"a": (2,)}, {"x.layers.0.w": (2, 2)}, {"b.c.weight": (3,)}])
def test_strangers_share_nothing(own: Shapes) -> None:
    assert matching(own, text()) is None


def test_a_stray_name_is_not_taken_for_that_of_another_tower() -> None:
    own = {**text(), "model.norm.bias": (6,), "mtp.layers.0.input_layernorm.weight": (6,)}
    own |= {f"mtp.layers.0.{name}": (5, 5) for name in ("a.weight", "b.weight")}
    whole = {**WRAPPED["old"][0], **vision("vision_tower."), "vision_tower.norm.bias": (6,)}
    found = matching(own, whole)
    assert found is not None
    assert own.keys() - found.names.keys() == own.keys() - text().keys()
