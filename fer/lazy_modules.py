"""Modules that are imported at their first use, because they take long to load and not every command needs them.

from fer.lazy_modules import tf
"""

from __future__ import annotations

import importlib
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras_cv
    import tensorflow as tf
    from scipy import ndimage


class _LazyModule(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        value = getattr(importlib.import_module(self.__name__), name)
        setattr(self, name, value)  # the next access does not come here
        return value


if not TYPE_CHECKING:
    tf, keras_cv, ndimage = map(_LazyModule, ("tensorflow", "keras_cv", "scipy.ndimage"))
