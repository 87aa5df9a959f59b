"""Resolution: levels, filters, gradients; compiled once, asked often."""

from __future__ import annotations

import time

import pytest

from mdm_kit.recipe import (
    CompiledSetting,
    Filtered,
    Filters,
    Gradient,
    Scalar,
    Setting,
    compile_setting,
    origin,
    resolve,
)
from mdm_kit.words import Kind, Level, Place

ANY = Place(1, 1)


def gradient(*texts: str) -> Gradient:
    return Gradient(tuple(Scalar(text) for text in texts), ANY)


def filters(*pairs: tuple[str | None, str | Gradient]) -> Filters:
    return Filters(
        tuple(Filtered(f, Scalar(v) if isinstance(v, str) else v, ANY) for f, v in pairs), ANY
    )


def number(level: Setting | None, name: str = "x", t: float = 0.0) -> float | None:
    compiled, findings = compile_setting([level], Scalar.as_number)
    assert findings == ()
    value = compiled.at(name, t)
    assert value == resolve([level], name, t, Scalar.as_number)
    return value


def test_a_scalar_is_the_same_everywhere() -> None:
    assert number(Scalar("0.25"), "a", 0.7) == 0.25
    assert number(None) is None


@pytest.mark.parametrize(
    ("t", "value"), [(0.0, 0.0), (0.25, 0.5), (0.5, 1.0), (0.75, 2.0), (1.0, 3.0)]
)
def test_numbers_interpolate(t: float, value: float) -> None:
    assert number(gradient("0", "1", "3"), t=t) == value


def test_interpolation_has_the_two_product_form() -> None:
    """The other form, low + share * (high - low), differs from mergekit's in the last bit."""
    assert number(gradient("0.3", "0.7"), t=1 / 3) == 0.43333333333333335
    assert 0.3 + (1 / 3) * (0.7 - 0.3) != 0.43333333333333335


@pytest.mark.parametrize(("t", "value"), [(0.0, "a"), (0.49, "a"), (0.5, "b"), (1.0, "c")])
def test_texts_are_chosen(t: float, value: str) -> None:
    compiled, _ = compile_setting([gradient("a", "b", "c")], Scalar.as_text)
    assert compiled.at("x", t) == value


def test_booleans_are_chosen_and_never_averaged() -> None:
    compiled, _ = compile_setting([gradient("no", "yes")], Scalar.as_boolean)
    assert compiled.at("x", 0.99) is False
    assert compiled.at("x", 1.0) is True


def test_the_first_filter_that_fits_wins() -> None:
    level = filters(("mlp", "1"), ("mlp.up", "2"), ("*", "3"), (None, "4"))
    assert number(level, "layers.0.mlp.up.weight") == 1
    assert number(level, "layers.0.attn.weight") == 3


def test_a_star_among_other_letters_is_no_pattern() -> None:
    assert number(filters(("m*p", "1")), "mlp") is None
    assert number(filters(("m*p", "1")), "m*p") == 1


def test_an_empty_filter_fits_every_name_but_the_empty_one() -> None:
    assert number(filters(("", "1")), "mlp") == 1
    assert number(filters(("", "1")), "") is None


def test_levels_fall_through_where_no_filter_fits() -> None:
    levels = [filters(("mlp", "1")), None, filters(("attn", "2")), gradient("3", "4"), Scalar("9")]
    compiled, findings = compile_setting(levels, Scalar.as_number)
    assert findings == ()
    assert [compiled.at(n, 0.5) for n in ("mlp", "attn", "norm")] == [1, 2, 3.5]
    assert resolve(levels, "norm", 0.5, Scalar.as_number) == 3.5


def test_a_level_that_fits_hides_the_next() -> None:
    compiled, _ = compile_setting([filters((None, "1")), Scalar("2")], Scalar.as_number)
    assert compiled.at("anything", 0) == 1


def test_the_level_and_filter_a_value_comes_from() -> None:
    own, whole = filters(("mlp", "1"), ("q", "2")), filters(("norm", "3"), (None, "4"))
    assert origin([own, whole], "a.mlp") == (0, "mlp")
    assert origin([own, whole], "a.norm") == (1, "norm")
    assert origin([own, whole], "a.o") == (1, None)
    assert origin([own, None], "a.o") is None
    assert origin([Scalar("1"), whole], "a.norm") == (0, None)


def test_constants_know_it() -> None:
    def constant(*levels: Setting | None) -> bool:
        return compile_setting(levels, Scalar.as_number)[0].is_constant

    assert constant(Scalar("1"))
    assert constant()
    assert constant(filters(("*", "1"), ("x", "2")))
    assert constant(gradient("1"))
    assert not constant(gradient("1", "2"))
    assert not constant(filters(("x", "1")), Scalar("2"))


def test_every_wrong_scalar_is_found_with_its_place() -> None:
    bad = Gradient(
        (Scalar("1"), Scalar("x", place=Place(3, 4)), Scalar("012", place=Place(3, 9))), ANY
    )
    compiled, findings = compile_setting(
        [bad, filters(("mlp", "nan")), Scalar("2")], Scalar.as_number, "weight of 'math'"
    )
    assert [(f.level, f.kind, f.place) for f in findings] == [
        (Level.ERROR, Kind.RECIPE, Place(3, 4)),
        (Level.ERROR, Kind.RECIPE, Place(3, 9)),
        (Level.ERROR, Kind.RECIPE, Place(1, 1)),
    ]
    assert findings[0].message == "weight of 'math': expected a number, found 'x'"
    assert "octal" in findings[1].hint
    assert compiled.at("mlp", 0) == 2


def test_any_value_error_of_a_reader_is_a_finding() -> None:
    def share(scalar: Scalar) -> float:
        value = scalar.as_number()
        if not 0 <= value <= 1:
            raise ValueError("expected a share from 0 to 1")
        return value

    _, findings = compile_setting([Scalar("2")], share, "density")
    assert [f.message for f in findings] == ["density: expected a share from 0 to 1"]
    with pytest.raises(ValueError, match="share"):
        resolve([Scalar("2")], "x", 0, share)


def test_ten_thousand_tensors_of_ten_models_are_quick() -> None:
    level = filters(("self_attn", gradient("0", "0.5", "1")), ("mlp", "0.3"))
    settings: list[CompiledSetting[int | float]] = [
        compile_setting([level, Scalar("1")], Scalar.as_number)[0] for _ in range(30)
    ]
    names = [f"model.layers.{i}.mlp.down_proj.weight" for i in range(10_000)]
    start = time.process_time()
    for compiled in settings:
        for name in names:
            compiled.at(name, 0.5)
    # 300,000 values take about 0.1 s; the bound leaves room for a busy machine.
    assert time.process_time() - start < 1.0
