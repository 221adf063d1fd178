#!/usr/bin/env bash
# One of several EC2 instances that train together, started on each of them with the same list and its own number:
#
#   BUCKET=my-bucket bash configs/aws/worker.sh 10.0.0.11,10.0.0.12 0      # on 10.0.0.11, which is the chief
#   BUCKET=my-bucket bash configs/aws/worker.sh 10.0.0.11,10.0.0.12 1      # on 10.0.0.12
#
# FER_RENDEZVOUS_TOKEN, a secret, is to be the same on all of them, if it is set. Their security group must let them
# reach each other on every TCP port: NCCL chooses its own.
set -euo pipefail

BUCKET=${BUCKET:?the name of a bucket that the instances may read and write}
RUN=${RUN:-compact}
CONFIG=${CONFIG:-configs/compact.py}
HOSTS=${1:?the private addresses of all instances, comma-separated, the chief first}
INDEX=${2:?the number of this instance in that list, from 0}

if [ ! -e .venv/installed ]; then # the last thing that an installation makes
  python3 -m venv .venv
  .venv/bin/pip install --quiet '.[gpu,s3]'
  touch .venv/installed
fi

IFS=, read -r -a hosts <<<"$HOSTS"
workers=$(printf '"%s:8470",' "${hosts[@]}")
export TF_CONFIG="{\"cluster\": {\"worker\": [${workers%,}]}, \"task\": {\"type\": \"worker\", \"index\": $INDEX}}"

.venv/bin/python scripts/train.py \
  --config="$CONFIG" \
  --data="s3://$BUCKET/tfrecords/fer2013" \
  --workdir="s3://$BUCKET/runs/$RUN" \
  --strategy=multi_worker \
  --watch_spot
if [ "$INDEX" = 0 ]; then
  unset TF_CONFIG
  .venv/bin/python scripts/evaluate.py \
    --workdir="s3://$BUCKET/runs/$RUN" \
    --data="s3://$BUCKET/tfrecords/fer2013" \
    --split=validation
fi
