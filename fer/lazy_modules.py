"""Modules that are imported at their first use, so that a program can check its flags before TensorFlow is loaded.

from fer.lazy_modules import tf
"""

from __future__ import annotations

import importlib
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras_cv
    import tensorflow as tf


class _LazyModule(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        value = getattr(importlib.import_module(self.__name__), name)
        setattr(self, name, value)  # the next access does not come here
        return value


if not TYPE_CHECKING:
    tf, keras_cv = _LazyModule("tensorflow"), _LazyModule("keras_cv")
