#!/usr/bin/env bash
#SBATCH --job-name=fer
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gres=gpu:8
#SBATCH --exclusive
#SBATCH --requeue
#SBATCH --signal=TERM@120
#SBATCH --output=%x-%j.log
# A job of AWS ParallelCluster, one process a node. From the checkout, in a folder that all nodes see:
#
#   sbatch --export=ALL,BUCKET=my-bucket configs/aws/slurm.sh
#
# --requeue starts it again after a spot instance is taken away, and --signal stops it in good order before its time is
# over; it then goes on from the last checkpoint. The addresses of the workers come from Slurm's own variables.
set -euo pipefail

BUCKET=${BUCKET:?the name of a bucket that the nodes may read and write}
RUN=${RUN:-compact}
CONFIG=${CONFIG:-configs/compact.py}

srun --kill-on-bad-exit=1 .venv/bin/python scripts/train.py \
  --config="$CONFIG" \
  --config.train.precision=mixed_bfloat16 \
  --data="s3://$BUCKET/tfrecords/fer2013" \
  --workdir="s3://$BUCKET/runs/$RUN" \
  --strategy=multi_worker \
  --watch_spot
.venv/bin/python scripts/evaluate.py \
  --workdir="s3://$BUCKET/runs/$RUN" \
  --data="s3://$BUCKET/tfrecords/fer2013" \
  --split=validation
