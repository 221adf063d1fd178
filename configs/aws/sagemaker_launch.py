"""Starts a SageMaker training job on spot instances.

    python configs/aws/sagemaker_launch.py --bucket=my-bucket --role=ARN --image=URI

Requires the SageMaker SDK (pip install 'sagemaker>=2.200,<3'), an image of the Dockerfile in ECR, built with
--build-arg=RUN_AS=root, and shards in s3://my-bucket/tfrecords/fer2013. A job with the --name of a stopped job resumes
it. The evaluation is in model.tar.gz below s3://my-bucket/sagemaker.
"""

from __future__ import annotations

import argparse
import re
import secrets
import sys
import time

ENTRY = ["bash", "/fer/configs/aws/sagemaker_entry.sh"]
HOUR = 3600


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--bucket", required=True, help="Bucket of the shards, the checkpoints and the results.")
    flags.add_argument(
        "--role", required=True, help="ARN of a role that SageMaker may assume and that may use the bucket."
    )
    flags.add_argument("--image", required=True, help="URI of the image in ECR.")
    flags.add_argument(
        "--name", default="compact", help="Name of the run: checkpoints go to s3://BUCKET/checkpoints/NAME."
    )
    flags.add_argument("--config", default="configs/compact.py", help="Config of the experiment.")
    flags.add_argument("--instance_type", default="ml.p4d.24xlarge", help="SageMaker instance type.")
    flags.add_argument("--instances", type=int, default=1, help="Number of instances.")
    flags.add_argument(
        "--hours", type=int, default=4, help="Maximum training time; waiting for spot instances may take as long again."
    )
    arguments = flags.parse_args()

    try:
        from sagemaker.estimator import Estimator
        from sagemaker.inputs import TrainingInput
    except ModuleNotFoundError as error:
        sys.exit(f"The SageMaker SDK cannot be imported ({error}); pip install 'sagemaker>=2.200,<3'.")

    estimator = Estimator(
        image_uri=arguments.image,
        role=arguments.role,
        instance_type=arguments.instance_type,
        instance_count=arguments.instances,
        container_entry_point=ENTRY,
        container_arguments=[f"--config={arguments.config}"],
        environment={"FER_RENDEZVOUS_TOKEN": secrets.token_hex(16)},  # shared secret of the hosts
        use_spot_instances=True,
        max_run=arguments.hours * HOUR,
        max_wait=2 * arguments.hours * HOUR,
        checkpoint_s3_uri=f"s3://{arguments.bucket}/checkpoints/{arguments.name}",
        checkpoint_local_path="/opt/ml/checkpoints",
        output_path=f"s3://{arguments.bucket}/sagemaker",
    )
    shards = TrainingInput(f"s3://{arguments.bucket}/tfrecords/fer2013", input_mode="File")
    # A job name has no underscore and at most 63 characters.
    name = re.sub(r"[^a-zA-Z0-9]+", "-", arguments.name)[:40].strip("-")
    estimator.fit({"tfrecords": shards}, job_name=f"fer-{name}-{time.strftime('%Y%m%d-%H%M%S')}")


if __name__ == "__main__":
    main()
