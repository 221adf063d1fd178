"""Tests of fer/lazy_modules.py."""

import subprocess
import sys

import pytest
import tensorflow

from fer import lazy_modules


def test_lazy_module_is_imported_at_its_first_use(monkeypatch):
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    module = lazy_modules._LazyModule("colorsys")
    assert "colorsys" not in sys.modules
    assert module.rgb_to_hsv(0, 0, 1) == (2 / 3, 1, 1)
    assert module.rgb_to_hsv is sys.modules["colorsys"].rgb_to_hsv


def test_lazy_module_has_the_attributes_of_the_module():
    assert lazy_modules.tf.Tensor is tensorflow.Tensor
    with pytest.raises(AttributeError, match="no attribute 'tensr'"):
        _ = lazy_modules.tf.tensr


def test_policy_is_built_without_tensorflow():
    code = (
        "import sys; from fer.augment import policy; "
        "policy.augmenter('flip|randaugment|augmix|erase|choose(mixup,cutmix)'); "
        "print({'tensorflow', 'keras_cv', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("set()\n", "")
