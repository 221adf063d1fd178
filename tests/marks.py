"""Marks for tests with requirements on the machine."""

import importlib.util

import pytest

from fer.models import precision

# With ONEDNN_MAX_CPU_ISA=AVX2, TensorFlow fails on bfloat16 on a CPU with AVX-512, and TensorFlow 2.21 fails on float16
# on a CPU with AVX512_FP16; other CPUs compute them.
needs_bfloat16, needs_float16 = (
    pytest.mark.skipif(
        not precision.is_computable(f"mixed_{dtype}"),
        reason=f"ONEDNN_MAX_CPU_ISA forbids the instructions that TensorFlow uses for {dtype} on this CPU",
    )
    for dtype in ("bfloat16", "float16")
)
HALF_PRECISIONS = [
    pytest.param("mixed_bfloat16", marks=needs_bfloat16),
    pytest.param("mixed_float16", marks=needs_float16),
]

needs_addons = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow_addons") is None, reason="TensorFlow Addons needs TensorFlow 2.15"
)
