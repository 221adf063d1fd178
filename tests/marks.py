"""Marks for tests with requirements on the machine."""

import pytest

from fer.models import precision

# On an AVX-512 CPU with ONEDNN_MAX_CPU_ISA=AVX2, TensorFlow fails on bfloat16; a CPU without AVX-512 computes it.
needs_bfloat16 = pytest.mark.skipif(
    not precision.computes_bfloat16(),
    reason="ONEDNN_MAX_CPU_ISA forbids the instructions that TensorFlow uses for bfloat16 on this CPU",
)
