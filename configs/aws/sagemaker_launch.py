"""Starts a SageMaker training job on spot instances.

    python configs/aws/sagemaker_launch.py --bucket=my-bucket --role=ARN --image=URI

Requires the SageMaker SDK (pip install 'sagemaker>=2.200,<3') and shards in s3://my-bucket/tfrecords/fer2013. The image
is one of the Dockerfile, built with --build-arg=RUN_AS=root. With --upload_code it is any image with Python and
TensorFlow, such as AWS' TensorFlow container. A job with the --name of a stopped job resumes it. The evaluation is in
model.tar.gz below s3://my-bucket/sagemaker.
"""

from __future__ import annotations

import argparse
import pathlib
import re
import secrets
import sys
import tarfile
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
CODE = ("setup.py", "pyproject.toml", "README.md", "fer", "scripts", "configs")  # as in the Dockerfile
ENTRY = ["bash", "/fer/configs/aws/sagemaker_entry.sh"]
# Installs the uploaded code, then starts the same script. It replaces the entry point of AWS' container, whose toolkit
# adds a flag --model_dir and handles no SIGTERM; start_cuda_compat.sh is the other part of that entry point.
INSTALL = (
    "bash /usr/local/bin/start_cuda_compat.sh 2>/dev/null; "
    "mkdir -p /fer && tar xzf /opt/ml/input/data/code/fer.tar.gz -C /fer && "
    'pip install --quiet /fer && exec bash /fer/configs/aws/sagemaker_entry.sh "$@"'
)
INSTALL_ENTRY = ["bash", "-c", INSTALL, "fer"]
HOUR = 3600


def read_flags() -> argparse.Namespace:
    """Returns the flags of the command line."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--bucket", required=True, help="Bucket of the shards, the checkpoints and the results.")
    flags.add_argument(
        "--role", required=True, help="ARN of a role that SageMaker may assume and that may use the bucket."
    )
    flags.add_argument("--image", required=True, help="URI of the image.")
    flags.add_argument(
        "--upload_code", action="store_true", help="Upload this checkout and install it in the container."
    )
    flags.add_argument(
        "--name", default="compact", help="Name of the run: checkpoints go to s3://BUCKET/checkpoints/NAME."
    )
    flags.add_argument("--config", default="configs/compact.py", help="Config of the experiment.")
    flags.add_argument("--instance_type", default="ml.p4d.24xlarge", help="SageMaker instance type.")
    flags.add_argument("--instances", type=int, default=1, help="Number of instances.")
    flags.add_argument(
        "--hours", type=int, default=4, help="Maximum training time; waiting for spot instances may take as long again."
    )
    return flags.parse_args()


def main() -> None:
    arguments = read_flags()
    try:
        from sagemaker.estimator import Estimator
        from sagemaker.inputs import TrainingInput
        from sagemaker.s3 import S3Uploader
    except ModuleNotFoundError as error:
        sys.exit(f"The SageMaker SDK cannot be imported ({error}); pip install 'sagemaker>=2.200,<3'.")

    # A job name has no underscore and at most 63 characters.
    name = re.sub(r"[^a-zA-Z0-9]+", "-", arguments.name)[:40].strip("-")
    job = f"fer-{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    inputs = {"tfrecords": TrainingInput(f"s3://{arguments.bucket}/tfrecords/fer2013", input_mode="File")}
    if arguments.upload_code:
        code = f"s3://{arguments.bucket}/code/{job}"
        with tempfile.TemporaryDirectory() as folder:
            S3Uploader.upload(pack_code(pathlib.Path(folder)), code)
        inputs["code"] = TrainingInput(code, input_mode="File")
    estimator = Estimator(
        image_uri=arguments.image,
        role=arguments.role,
        instance_type=arguments.instance_type,
        instance_count=arguments.instances,
        container_entry_point=INSTALL_ENTRY if arguments.upload_code else ENTRY,
        container_arguments=[f"--config={arguments.config}"],
        environment={"FER_RENDEZVOUS_TOKEN": secrets.token_hex(16)},  # shared secret of the hosts
        use_spot_instances=True,
        max_run=arguments.hours * HOUR,
        max_wait=2 * arguments.hours * HOUR,
        checkpoint_s3_uri=f"s3://{arguments.bucket}/checkpoints/{arguments.name}",
        checkpoint_local_path="/opt/ml/checkpoints",
        output_path=f"s3://{arguments.bucket}/sagemaker",
    )
    estimator.fit(inputs, job_name=job)


def pack_code(folder: pathlib.Path) -> str:
    """Writes the files of this checkout that an installation needs to fer.tar.gz in a folder. Returns its path."""
    path = folder / "fer.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name in CODE:
            archive.add(ROOT / name, name, filter=lambda entry: None if "__pycache__" in entry.name else entry)
    return str(path)


if __name__ == "__main__":
    main()
