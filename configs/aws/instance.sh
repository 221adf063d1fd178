#!/usr/bin/env bash
# One EC2 instance, from an empty disk to eval.json in S3. On a Deep Learning Base GPU AMI (Ubuntu 22.04):
#
#   BUCKET=my-bucket bash configs/aws/instance.sh
#
# The same command, on this or another instance, resumes from the last checkpoint in the bucket. restart.sh restarts it.
set -euo pipefail
# shellcheck source=/dev/null
source "$(dirname "$0")/restart.sh"

BUCKET=${BUCKET:?set it to a bucket that this instance may read and write}
RUN=${RUN:-compact}
CONFIG=${CONFIG:-configs/compact.py}
PRECISION=${PRECISION:-auto}

if [ ! -e .venv/installed ]; then # created after a complete installation
  python3 -m venv .venv
  .venv/bin/pip install --quiet '.[gpu,s3]'
  touch .venv/installed
fi

restart .venv/bin/python scripts/train.py \
  --config="$CONFIG" \
  --config.train.precision="$PRECISION" \
  --data="s3://$BUCKET/tfrecords/fer2013" \
  --workdir="s3://$BUCKET/runs/$RUN" \
  --strategy=auto \
  --stop_on_spot_interruption
restart .venv/bin/python scripts/evaluate.py \
  --workdir="s3://$BUCKET/runs/$RUN" \
  --data="s3://$BUCKET/tfrecords/fer2013" \
  --split=validation
