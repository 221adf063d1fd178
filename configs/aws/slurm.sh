#!/usr/bin/env bash
#SBATCH --job-name=fer
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gres=gpu:8
#SBATCH --exclusive
#SBATCH --requeue
#SBATCH --signal=TERM@120
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
# A job of AWS ParallelCluster, one process a node. From the checkout, in a folder that all nodes see:
#
#   sbatch --export=ALL,BUCKET=my-bucket configs/aws/slurm.sh
#
# A spot instance that goes, and --signal before the job's time is over, stop the training in good order, with exit code
# 143; the job then puts itself into the queue again and goes on from the last checkpoint. --requeue does so for a node
# that failed without notice. The addresses of the workers come from Slurm's own variables.
set -euo pipefail

BUCKET=${BUCKET:?the name of a bucket that the nodes may read and write}
RUN=${RUN:-compact}
CONFIG=${CONFIG:-configs/compact.py}

# What the workers of this job know each other by: see docs/aws.md.
FER_RENDEZVOUS_TOKEN=${FER_RENDEZVOUS_TOKEN:-$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')}
export FER_RENDEZVOUS_TOKEN

# A worker that has stopped must not end the chief, which still writes the checkpoint; one that is lost is noticed.
code=0
srun --kill-on-bad-exit=0 .venv/bin/python scripts/train.py \
  --config="$CONFIG" \
  --data="s3://$BUCKET/tfrecords/fer2013" \
  --workdir="s3://$BUCKET/runs/$RUN" \
  --strategy=multi_worker \
  --watch_spot || code=$?
if [ "$code" = 143 ]; then
  scontrol requeue "$SLURM_JOB_ID"
  exit 0
fi
[ "$code" = 0 ] || exit "$code"
.venv/bin/python scripts/evaluate.py \
  --workdir="s3://$BUCKET/runs/$RUN" \
  --data="s3://$BUCKET/tfrecords/fer2013" \
  --split=validation
