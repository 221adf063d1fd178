"""Starts a training job of SageMaker on spot instances.

    python configs/aws/sagemaker_launch.py --bucket=my-bucket --role=ARN --image=URI

Needs the SageMaker SDK where it is started (pip install 'sagemaker>=2.200,<3'), an image of the Dockerfile in ECR,
built with --build-arg=RUN_AS=root, and the shards in s3://my-bucket/tfrecords/fer2013. The same --name goes on where a
job of that name stopped. The evaluation lies in model.tar.gz under s3://my-bucket/sagemaker at the end.
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
    flags.add_argument(
        "--bucket", required=True, help="Name of the bucket of the shards, the checkpoints and the results."
    )
    flags.add_argument(
        "--role", required=True, help="ARN of a role that SageMaker may take and that may use the bucket."
    )
    flags.add_argument("--image", required=True, help="URI of the image in ECR.")
    flags.add_argument(
        "--name", default="compact", help="Of the run: its checkpoints lie in s3://BUCKET/checkpoints/NAME."
    )
    flags.add_argument("--config", default="configs/compact.py", help="The experiment.")
    flags.add_argument("--instance_type", default="ml.p4d.24xlarge")
    flags.add_argument("--instances", type=int, default=1)
    flags.add_argument(
        "--hours", type=int, default=4, help="Of training; it may wait as long again for spot instances."
    )
    asked = flags.parse_args()

    try:
        from sagemaker.estimator import Estimator
        from sagemaker.inputs import TrainingInput
    except ModuleNotFoundError as error:
        sys.exit(f"The SageMaker SDK cannot be imported ({error}); pip install 'sagemaker>=2.200,<3'.")

    estimator = Estimator(
        image_uri=asked.image,
        role=asked.role,
        instance_type=asked.instance_type,
        instance_count=asked.instances,
        container_entry_point=ENTRY,
        container_arguments=[f"--config={asked.config}"],
        environment={"FER_RENDEZVOUS_TOKEN": secrets.token_hex(16)},  # what the hosts know each other by
        use_spot_instances=True,
        max_run=asked.hours * HOUR,
        max_wait=2 * asked.hours * HOUR,
        checkpoint_s3_uri=f"s3://{asked.bucket}/checkpoints/{asked.name}",
        checkpoint_local_path="/opt/ml/checkpoints",
        output_path=f"s3://{asked.bucket}/sagemaker",
    )
    shards = TrainingInput(f"s3://{asked.bucket}/tfrecords/fer2013", input_mode="File")
    name = re.sub(r"[^a-zA-Z0-9]+", "-", asked.name)[:40].strip("-")  # of a job: no underscore, 63 characters in all
    estimator.fit({"tfrecords": shards}, job_name=f"fer-{name}-{time.strftime('%Y%m%d-%H%M%S')}")


if __name__ == "__main__":
    main()
