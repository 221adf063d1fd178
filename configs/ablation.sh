#!/bin/bash
# The ablations of docs/report.md: each change alone against configs/ablation.py, two seeds each, one process per core.
# The same command resumes a killed sweep. DATA is the official split with FER+ votes; CLEAN is the same, converted with
# --drop=conflicting,leaked.
set -euo pipefail
DATA=${DATA:-tfrecords/fer2013} CLEAN=${CLEAN:-tfrecords/fer2013-clean} OUT=${OUT:-runs/ablations}
affine="affine(rotate=15,scale=0.15,shift=0.08,shear=0.1)" erase="erase(p=0.4,high=0.2)"
changes="augment.policy=none,flip|$affine,flip|$erase,flip|$affine|$erase,flip|randaugment(2,9,preset=faces)"
changes+=",flip|randaugment(2,9),flip|mixup(0.2),flip|cutmix(1.0)"
changes+="; train.label_smoothing=0; train.ema_decay=0; data.class_weights=inverse; train.precision=float32"
changes+="; model.image_size=64; train.label_source=mixture,posterior"

sweep() { # arguments: subdirectory of OUT, then flags
  local output=$OUT/$1 core process processes=() failed=0; shift
  for core in $(seq 0 $(($(nproc) - 1))); do
    taskset -c "$core" "${PYTHON:-python}" scripts/sweep.py --config=configs/ablation.py --output="$output" --grid='seed=0,1' "$@" &
    processes+=($!)
  done
  for process in "${processes[@]}"; do wait "$process" || failed=$?; done # `wait` without an argument hides failures
  return $failed
}

sweep clean --data="$CLEAN"
sweep keras_cv --data="$DATA" --config.augment.policy='flip|randaugment(2,9)' --config.augment.backend=keras_cv \
  --config.train.deterministic=false
sweep changes --data="$DATA" --ablations="$changes" --extra_runs="$OUT/clean,$OUT/keras_cv"
