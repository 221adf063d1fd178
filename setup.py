"""The package's only definition: what it is, what it needs, which extras there are."""

import pathlib
import re

from setuptools import find_packages, setup

HERE = pathlib.Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+?)"', (HERE / "fer" / "__init__.py").read_text())[1]

EXTRAS = {
    # From 4.12 on OpenCV needs NumPy 2.
    "photos": ["opencv-python-headless>=4.8,<4.12"],
    "s3": ["tensorflow-io>=0.35,<0.37"],
    "export": ["tf2onnx>=1.16,<2", "onnx>=1.14,<1.18", "onnxruntime>=1.16"],
    "demo": ["flask>=3,<4", "opencv-python-headless>=4.8,<4.12"],
    "sweep": ["optuna>=3.6,<5", "plotly>=5"],
}

setup(
    name="fer",
    version=VERSION,
    description="Training systems for facial expression recognition on TensorFlow",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.9,<3.12",
    packages=find_packages(include=["fer", "fer.*"]),
    package_data={
        "fer.evaluation": ["*.json", "*.css", "*.js"],
        "fer.models": ["weights/*"],
        "fer.demo": ["*.html", "*.css", "*.js"],
    },
    install_requires=[
        # TensorFlow Addons imports on nothing newer than 2.15; with protobuf 4, a newer
        # tensorflow-metadata breaks `import keras_cv`.
        "tensorflow>=2.15.1,<2.16",
        "tensorflow-addons>=0.23,<0.24",
        "tensorflow-metadata<1.17",
        "keras-cv>=0.9,<0.10",
        "numpy>=1.23,<2",
        "pandas>=2,<3",
        "scikit-learn>=1.3,<2",
        "absl-py>=1.4",
        "ml-collections>=0.1.1,<2",
        "matplotlib>=3.7,<4",
        "jsonschema>=4.17,<5",
        "scipy>=1.10,<2",
        "pillow>=9.1",
        "tqdm>=4.65,<5",
        "setuptools>=70.1,<81",  # TensorBoard 2.15 imports pkg_resources, which later ones no longer have
    ],
    extras_require={
        **EXTRAS,
        "gpu": ["tensorflow[and-cuda]>=2.15.1,<2.16"],
        # What the benchmark compares with; it says so where one is missing.
        "bench": [
            "albumentations>=1.4,<3",
            *EXTRAS["photos"],
            "torch>=2.2,<3",
            "torchvision>=0.17,<1",
        ],
        "test": [
            "pytest>=7.4",
            "pytest-xdist>=3.3",
            "ruff>=0.4",
            "hypothesis>=6.80,<7",
            "selenium>=4.11,<5",
            "moto[server]>=5,<6",
            *(requirement for extra in EXTRAS.values() for requirement in extra),
        ],
    },
)
