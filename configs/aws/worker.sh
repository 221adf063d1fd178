#!/usr/bin/env bash
# One of several EC2 instances that train together. Run it on each with the same list and the instance's index:
#
#   BUCKET=my-bucket bash configs/aws/worker.sh 10.0.0.11,10.0.0.12 0      # on 10.0.0.11, which is the chief
#   BUCKET=my-bucket bash configs/aws/worker.sh 10.0.0.11,10.0.0.12 1      # on 10.0.0.12
#
# If FER_RENDEZVOUS_TOKEN (a shared secret) is set, it must be the same on all instances. Their security group must allow
# every TCP port between them, because NCCL chooses ports by itself.
set -euo pipefail

BUCKET=${BUCKET:?set it to a bucket that the instances may read and write}
RUN=${RUN:-compact}
CONFIG=${CONFIG:-configs/compact.py}
HOSTS=${1:?first argument: the private addresses of all instances, comma-separated, the chief first}
INDEX=${2:?second argument: the index of this instance in that list, from 0}

if [ ! -e .venv/installed ]; then # created after a complete installation
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
  --stop_on_spot_interruption
if [ "$INDEX" = 0 ]; then
  unset TF_CONFIG
  .venv/bin/python scripts/evaluate.py \
    --workdir="s3://$BUCKET/runs/$RUN" \
    --data="s3://$BUCKET/tfrecords/fer2013" \
    --split=validation
fi
