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
# A job of AWS ParallelCluster, one process per node. From a checkout in a shared directory:
#
#   sbatch --export=ALL,BUCKET=my-bucket configs/aws/slurm.sh
#
# --signal before the time limit stops the training with a checkpoint and exit code 143. The job then requeues itself and
# resumes from the last checkpoint. --requeue does the same after the failure of a node. Slurm's variables give the
# addresses of the workers.
#
# A spot interruption, the loss of a worker or of the bucket (75), and SIGKILL of a worker, as when the memory is full
# (137), requeue the job, too, while Slurm has restarted it less than MAX_RESTARTS times. A restart within the
# allocation, as restart.sh does it, would wait for a node that is gone; Slurm replaces it.
set -euo pipefail

BUCKET=${BUCKET:?set it to a bucket that the nodes may read and write}
RUN=${RUN:-compact}
CONFIG=${CONFIG:-configs/compact.py}

# The shared secret of this job's workers: see docs/aws.md.
FER_RENDEZVOUS_TOKEN=${FER_RENDEZVOUS_TOKEN:-$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')}
export FER_RENDEZVOUS_TOKEN

# A worker that stops must not kill the chief, which still writes the checkpoint. Training itself detects a lost worker.
# The code of srun is the highest one of the workers.
code=0
srun --kill-on-bad-exit=0 .venv/bin/python scripts/train.py \
  --config="$CONFIG" \
  --data="s3://$BUCKET/tfrecords/fer2013" \
  --workdir="s3://$BUCKET/runs/$RUN" \
  --strategy=multi_worker \
  --stop_on_spot_interruption || code=$?
if [[ $code = 143 || ($code = 75 || $code = 137) && ${SLURM_RESTART_COUNT:-0} -lt ${MAX_RESTARTS:-10} ]]; then
  scontrol requeue "$SLURM_JOB_ID"
  exit 0
fi
[ "$code" = 0 ] || exit "$code"
.venv/bin/python scripts/evaluate.py \
  --workdir="s3://$BUCKET/runs/$RUN" \
  --data="s3://$BUCKET/tfrecords/fer2013" \
  --split=validation
