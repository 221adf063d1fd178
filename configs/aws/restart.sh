# Defines `restart COMMAND...` for the scripts of this folder: runs a command, and restarts it where the same command can
# go on. It returns the last exit code.
#
#   75     a worker was lost, the bucket did not answer, or EC2 interrupts the spot instance: restart
#   137    SIGKILL ended the command, as when the memory is full: restart, because the other workers wait for this one
#   other  no restart; 1 needs a correction
#
# If another worker has ended with 1, this one waits ten minutes for it after each restart: stop this one, too.
#
# There are at most MAX_RESTARTS restarts. The pause before restart N is N times RESTART_PAUSE seconds, because a spot
# instance still has two minutes, and a bucket may be away for longer. TERM, INT and HUP are passed on to the command, and
# no restart follows.
# shellcheck shell=bash

MAX_RESTARTS=${MAX_RESTARTS:-10}
RESTART_PAUSE=${RESTART_PAUSE:-30}
for each in "$MAX_RESTARTS" "$RESTART_PAUSE"; do
  [[ $each =~ ^(0|[1-9][0-9]*)$ ]] || {
    echo "MAX_RESTARTS and RESTART_PAUSE must be whole numbers, not '$each'." >&2
    exit 1
  }
done

restart() {
  local code='' count=0 signal
  stopped=''
  for signal in TERM INT HUP; do
    # shellcheck disable=SC2064 # the signal is expanded now
    trap "stopped=$signal interrupted=1; kill -$signal \$child 2>/dev/null || :" "$signal"
  done
  run_child "$@"
  while [[ -z $stopped && ($code = 75 || $code = 137) && $count -lt $MAX_RESTARTS ]]; do
    count=$((count + 1))
    echo "Exit code $code: restart $count of $MAX_RESTARTS in $((count * RESTART_PAUSE)) s." >&2
    run_child sleep $((count * RESTART_PAUSE))
    [ -n "$stopped" ] || run_child "$@"
  done
  trap - TERM INT HUP
  return "$code"
}

# Runs a command and sets `code` to its exit code. The command runs in the background, so that a signal ends `wait` at
# once, and in a process group of its own, so that Ctrl-C reaches it only once.
run_child() {
  child='' interrupted=1
  set -m
  "$@" &
  child=$!
  set +m
  [ -z "$stopped" ] || kill "-$stopped" "$child" || :
  while [ -n "$interrupted" ]; do # the signal ended `wait`, but not the command
    interrupted='' code=0
    wait "$child" || code=$?
  done
}
