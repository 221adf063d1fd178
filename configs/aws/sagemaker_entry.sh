#!/usr/bin/env bash
# The entry point of a SageMaker training container. configs/aws/sagemaker_launch.py starts it with a config and flags of
# training.
#
# The run directory is SageMaker's checkpoint directory. SageMaker copies it to S3 during training, and back to a
# replacement of a spot instance. Every host trains; the first one evaluates. restart.sh passes SageMaker's SIGTERM on to
# the training, which stops within 25 steps, with a checkpoint.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=/dev/null
source configs/aws/restart.sh

ML=${ML:-/opt/ml} # SageMaker's directory in every container
RUN=$ML/checkpoints/run
DATA=$ML/input/data/tfrecords

restart python scripts/train.py --data="$DATA" --workdir="$RUN" --strategy=auto "$@"

host() { python -c 'import json, sys; r = json.load(open(sys.argv[1])); print(r["current_host"], min(r["hosts"]))' "$1"; }
read -r current first <<<"$(host "$ML/input/config/resourceconfig.json")"
if [ "$current" = "$first" ]; then
  restart python scripts/evaluate.py --workdir="$RUN" --data="$DATA" --split=validation --output="$ML/model"
fi
