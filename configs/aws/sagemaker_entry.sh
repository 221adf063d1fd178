#!/usr/bin/env bash
# The entry point of a SageMaker training container. configs/aws/sagemaker_launch.py starts it with a config and flags of
# training.
#
# The run directory is SageMaker's checkpoint directory. SageMaker copies it to S3 during training, and back to a
# replacement of a spot instance. Every host trains; the first one evaluates.
set -euo pipefail
cd "$(dirname "$0")/../.."

ML=${ML:-/opt/ml} # SageMaker's directory in every container
RUN=$ML/checkpoints/run
DATA=$ML/input/data/tfrecords

# SageMaker's SIGTERM is passed on to the training, which stops after its step, with a checkpoint.
python scripts/train.py --data="$DATA" --workdir="$RUN" --strategy=auto "$@" &
training=$!
trap 'kill -TERM "$training"' TERM
code=0
wait "$training" || code=$?
while kill -0 "$training" 2>/dev/null; do # the signal ended `wait`, but not the training yet
  code=0
  wait "$training" || code=$?
done
[ "$code" = 0 ] || exit "$code"

host() { python -c 'import json, sys; r = json.load(open(sys.argv[1])); print(r["current_host"], min(r["hosts"]))' "$1"; }
read -r current first <<<"$(host "$ML/input/config/resourceconfig.json")"
if [ "$current" = "$first" ]; then
  python scripts/evaluate.py --workdir="$RUN" --data="$DATA" --split=validation --output="$ML/model"
fi
