#!/usr/bin/env bash
# One of several EC2 instances that train together. Run it on each with the same list and the instance's index:
#
#   BUCKET=my-bucket bash configs/aws/worker.sh 10.0.0.11,10.0.0.12 0      # on 10.0.0.11, which is the chief
#   BUCKET=my-bucket bash configs/aws/worker.sh 10.0.0.11,10.0.0.12 1      # on 10.0.0.12
#
# An address may have a port (10.0.0.11:8471); 8470 is the default. DATA and WORKDIR replace the paths in the bucket, for
# example by a shared disk. restart.sh restarts the training after the loss of another worker.
#
# If FER_RENDEZVOUS_TOKEN (a shared secret) is set, it must be the same on all instances. Their security group must allow
# every TCP port between them, because NCCL chooses ports by itself.
set -euo pipefail
# shellcheck source=/dev/null
source "$(dirname "$0")/restart.sh"

RUN=${RUN:-compact}
DATA=${DATA:-s3://${BUCKET:?set it to a bucket that the instances may read and write}/tfrecords/fer2013}
WORKDIR=${WORKDIR:-s3://${BUCKET:?set it to a bucket that the instances may read and write}/runs/$RUN}
CONFIG=${CONFIG:-configs/compact.py}
HOSTS=${1:?first argument: the private addresses of all instances, comma-separated, the chief first}
INDEX=${2:?second argument: the index of this instance in that list, from 0}

if [ ! -e .venv/installed ]; then # created after a complete installation
  python3 -m venv .venv
  .venv/bin/pip install --quiet '.[gpu,s3]'
  touch .venv/installed
fi

IFS=, read -r -a hosts <<<"$HOSTS"
workers=''
for host in "${hosts[@]}"; do
  [[ $host = *:* ]] || host+=:8470
  workers+="\"$host\","
done
export TF_CONFIG="{\"cluster\": {\"worker\": [${workers%,}]}, \"task\": {\"type\": \"worker\", \"index\": $INDEX}}"

restart .venv/bin/python scripts/train.py \
  --config="$CONFIG" \
  --data="$DATA" \
  --workdir="$WORKDIR" \
  --strategy=multi_worker \
  --stop_on_spot_interruption
if [ "$INDEX" = 0 ]; then
  unset TF_CONFIG
  restart .venv/bin/python scripts/evaluate.py \
    --workdir="$WORKDIR" \
    --data="$DATA" \
    --split=validation
fi
