"""Registration of ops, and the bounds of those that are registered."""

import numpy as np
import pytest
import tensorflow as tf

from fer.augment import geometric, photometric, policy, randaugment, registry
from fer.augment.ops import LazyOp
from fer.augment.registry import register_op
from fer.errors import UserError
from fer.rng import BatchRng

FACES = np.random.default_rng(0).integers(0, 256, (8, 48, 48, 1), dtype=np.uint8)
TARGETS = tf.one_hot(np.arange(8) % 7, 7)
RNG = BatchRng(tf.constant([1, 2]), tf.range(8), 8)
NUMBERS = [
    (name, argument)
    for name, op in registry.OPS.items()
    for argument, (default, _) in op.arguments.items()
    if not isinstance(default, str)
]


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """Unregisters the ops of a test after it."""
    monkeypatch.setattr(registry, "OPS", dict(registry.OPS))


def augment(text: str) -> np.ndarray:
    return policy.augmenter(text)(FACES, TARGETS, RNG)[0].numpy()


def augment_in_turn(*texts: str) -> np.ndarray:
    """Returns FACES after policies of one op each, which draw the numbers of a joint policy."""
    images = FACES
    for salt, text in enumerate(texts):
        skipped = "|".join(["blur(0)"] * salt)  # changes nothing
        images = policy.augmenter(f"{skipped}|{text}" if skipped else text)(images, TARGETS, RNG)[0].numpy()
    return images


def register_shades(kind: str = "photometric") -> None:
    @register_op("shades", kind=kind, count=(2, 128), order=("up", "down"))
    def shades(rng: BatchRng, side: int, count: int = 4, order: str = "up") -> LazyOp:
        """Keeps `count` grey levels."""
        step = 256 // count
        levels = tf.floor(photometric.identity(len(rng.positions)) / step) * step
        return LazyOp(tables=lambda before, _: levels if order == "up" else 255 - levels)


def test_register_op_makes_function_an_op_of_policies():
    register_shades()
    np.testing.assert_array_equal(augment("shades"), FACES // 64 * 64)
    np.testing.assert_array_equal(augment("shades(2,down)"), 255 - FACES // 128 * 128)
    np.testing.assert_array_equal(augment("flip|shades(8)|erase"), augment_in_turn("flip", "shades(8)", "erase"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("shade", "there is no operation 'shade'; the nearest is shades"),
        ("shades(1)", "shades's count is 1; it must be 2 to 128"),
        ("shades(2.5)", "shades's count is 2.5; it must be a whole number"),
        ("shades(2,left)", "shades's order is left; there are up, down"),
        ("shades(levels=2)", "shades has no argument 'levels'; there are count, order"),
    ],
)
def test_parse_error_names_the_bounds_of_a_registered_op(text, message):
    register_shades()
    with pytest.raises(UserError) as caught:
        policy.parse(text)
    assert message in str(caught.value)


def test_register_op_rejects_a_name_that_is_taken():
    register_shades()
    with pytest.raises(ValueError, match="The op shades is registered twice"):
        register_shades()


@pytest.mark.parametrize("bounds", [{}, {"count": (1, 9)}, {"amount": (0, 1), "count": (1, 9)}])
def test_register_op_rejects_bounds_of_other_arguments(bounds):
    with pytest.raises(ValueError, match="The function of the op dim has other parameters than rng, side"):

        @register_op("dim", kind="photometric", **bounds)
        def dim(rng: BatchRng, side: int, amount: float = 0.5) -> LazyOp:
            return LazyOp()

    assert "dim" not in registry.OPS


def test_augmenter_rejects_an_op_that_returns_another_kind_of_change():
    register_shades(kind="geometric")
    with pytest.raises(TypeError, match="The op shades of the kind geometric changes tables"):
        augment("flip|shades")


def test_augmenter_warps_once_for_consecutive_geometric_ops(monkeypatch):
    warps, warp = [], geometric.warp
    monkeypatch.setattr(geometric, "warp", lambda *args, **options: warps.append(1) or warp(*args, **options))
    counts = {
        "flip|affine(15)|crop": 1,
        "flip|blur|gamma": 1,
        "flip|blur|affine(15)": 2,
        "flip|erase|affine(15)": 2,
        "flip|randaugment|affine(15)|crop": 2,
    }
    for text, count in counts.items():
        warps.clear()
        augment(text)
        assert len(warps) == count, text


@pytest.mark.parametrize(("name", "argument"), NUMBERS)
def test_parse_accepts_numbers_within_the_bounds_of_the_op(name, argument):
    op = registry.OPS[name]
    low, high = op.arguments[argument].bounds
    wide = {op.ascending[0]: 0, op.ascending[-1]: 1} if op.ascending else {}
    for value in (low, high, op.arguments[argument].default):
        given = {**wide, argument: value}
        text = f"{name}({','.join(f'{key}={number}' for key, number in given.items())})"
        assert policy.parse(text)[0].arguments == given
    for value in (low - 1e-3, high + 1):
        with pytest.raises(UserError, match=f"{name}'s {argument} is .*; it must be "):
            policy.parse(f"{name}({argument}={value})")


def test_parse_accepts_the_presets_of_randaugment():
    assert registry.OPS["randaugment"].arguments["preset"] == ("paper", tuple(randaugment.PRESETS))
