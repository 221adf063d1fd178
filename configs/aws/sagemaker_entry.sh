#!/usr/bin/env bash
# What a SageMaker training container runs; configs/aws/sagemaker_launch.py starts it, with a config and flags for
# training.
#
# The run folder is SageMaker's checkpoint folder, which it copies to S3 while training goes on and back when a spot
# instance is replaced. Every host trains, the first one evaluates.
set -euo pipefail
cd "$(dirname "$0")/../.."

ML=${ML:-/opt/ml} # SageMaker's folder in every container
RUN=$ML/checkpoints/run
DATA=$ML/input/data/tfrecords

# SageMaker's SIGTERM goes on to the training, which stops after its step, with a checkpoint.
python scripts/train.py --data="$DATA" --workdir="$RUN" --strategy=auto "$@" &
training=$!
trap 'kill -TERM "$training"' TERM
code=0
wait "$training" || code=$?
while kill -0 "$training" 2>/dev/null; do # the signal ended the waiting, not yet the training
  code=0
  wait "$training" || code=$?
done
[ "$code" = 0 ] || exit "$code"

host() { python -c 'import json, sys; r = json.load(open(sys.argv[1])); print(r["current_host"], min(r["hosts"]))' "$1"; }
read -r current first <<<"$(host "$ML/input/config/resourceconfig.json")"
if [ "$current" = "$first" ]; then
  python scripts/evaluate.py --workdir="$RUN" --data="$DATA" --split=validation --output="$ML/model"
fi
