# Training on a GPU. TensorFlow 2.15 is built for CUDA 12.2 and cuDNN 8.9, as in this base image.
#
#   docker build --tag fer .
#   docker run --rm --gpus=all fer scripts/gpu_check.py
#
# SageMaker owns /opt/ml as root: build with --build-arg=RUN_AS=root for it. The default user is fer.
FROM nvidia/cuda:12.2.2-cudnn8-runtime-ubuntu22.04

# XLA needs ptxas and libdevice of cuda-nvcc to compile for GPUs.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends cuda-nvcc-12-2=12.2.140-1 python3=3.10.6-* python3-venv=3.10.6-* \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --create-home --uid=1000 fer

WORKDIR /fer
ENV PATH=/opt/fer/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    XLA_FLAGS=--xla_gpu_cuda_data_dir=/usr/local/cuda-12.2

# Pinned packages come first, so that a code change does not reinstall them.
COPY requirements.lock ./
RUN python3 -m venv /opt/fer \
 && pip install --no-cache-dir --require-hashes --requirement requirements.lock
COPY setup.py pyproject.toml README.md ./
COPY fer fer
COPY scripts scripts
COPY configs configs
RUN pip install --no-cache-dir --no-deps --no-build-isolation .

ARG RUN_AS=fer
USER ${RUN_AS}
ENTRYPOINT ["python"]
CMD ["scripts/gpu_check.py"]
