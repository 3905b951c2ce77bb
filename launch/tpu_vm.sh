set -euo pipefail

here=$(dirname "$0")
place=(--project="$PROJECT" --zone="$ZONE")
running=false # whether a job runs there, so that the TPU is left when this script ends
follower=     # what shows the log
lines=+1      # of the log, from which it is followed

fail() {
  echo "error: $1" >&2
  exit 2
}

say() {
  echo "$(date +%T) $1"
}

# The state of the queued resource, NONE if there is none.
state() {
  local said
  if said=$(gcloud compute tpus queued-resources describe "$RUN" "${place[@]}" \
    --format='value(state.state)' 2>&1); then
    echo "${said##*$'\n'}"
  elif [[ $said == *NOT_FOUND* || $said == *"not found"* ]]; then
    echo NONE
  else
    fail "gcloud: found ${said##*$'\n'}, expected that it can look for the TPU"
  fi
}

on() { # WORKER COMMAND
  gcloud compute tpus tpu-vm ssh "$RUN" "${place[@]}" --worker="$1" --command="$2" --quiet
}

create() {
  say "asks for $ACCELERATOR as $RUN, for $WAIT at most"
  local said
  said=$(gcloud compute tpus queued-resources create "$RUN" --node-id="$RUN" "${place[@]}" \
    --accelerator-type="$ACCELERATOR" --runtime-version="$RUNTIME" "${CAPACITY[@]}" \
    --valid-until-duration="$WAIT" --scopes=cloud-platform \
    --metadata-from-file=startup-script="$here/watch.sh" --quiet 2>&1) ||
    fail "gcloud: found ${said##*$'\n'}, expected a TPU $ACCELERATOR in $ZONE"
}

delete() {
  if [[ $(state) != NONE ]]; then
    say "deletes $RUN"
    gcloud compute tpus queued-resources delete "$RUN" "${place[@]}" --force --quiet
  fi
}

# Brings the TPU into the state ACTIVE; one that was preempted is made anew.
wait_until_active() {
  local now
  while true; do
    now=$(state)
    case $now in
      ACTIVE) return ;;
      NONE) create ;;
      SUSPENDED | SUSPENDING)
        say "$RUN was preempted"
        delete
        ;;
      FAILED)
        running=false
        fail "found that $RUN was not given in $WAIT, expected room in $ZONE"
        ;;
      *) say "$RUN: $now" ;;
    esac
    sleep "$POLL"
  done
}

# What runs on worker 0, or has ended there: the digest of a job, or none.
job() {
  local try
  for ((try = 1; try <= 30; try++)); do
    on 0 "if test -e run/code || pgrep -f '[r]un/job.sh' >/dev/null
      then cat run/digest; else echo none; fi" 2>/dev/null && return
    sleep "$POLL"
  done
  fail "found no answer of $RUN in $PATIENCE s, expected that ssh reaches it"
}

# Copies the code to all workers and starts the job there, unless it is there.
start() {
  local found
  found=$(job)
  [[ $found != "$DIGEST" ]] || return 0
  [[ $found == none ]] ||
    fail "found another job on $RUN, expected the same command, or another --run"
  running=false
  say "copies the code and installs it"
  tar --exclude-vcs --exclude=./runs --exclude=./.venv -czf "$here/code.tar.gz" .
  gcloud compute tpus tpu-vm scp "$here/code.tar.gz" "$here/job.sh" "$here/install.sh" "$RUN:" \
    "${place[@]}" --worker=all --quiet
  on all 'rm -rf run && bash install.sh' || fail "found an install that failed, expected one as above"
  say "starts the job"
  on "$WORKERS" "mkdir -p run && echo '$DIGEST' >run/digest && mv job.sh run/job.sh &&
    (setsid nohup bash run/job.sh >run/log 2>&1 </dev/null &)"
}

# Shows what worker 0 writes until its job has ended; ends early with the connection.
follow() {
  set -m # a process group of its own, which `finish` can end
  on 0 "tail -n $lines -F run/log & until test -e run/code || ! pgrep -f '[r]un/job.sh' >/dev/null
    do sleep $POLL; done; sleep $POLL; kill \$!" </dev/null &
  follower=$!
  set +m
  wait $follower || true # which a signal ends
  follower=
}

# shellcheck disable=SC2329
finish() {
  [[ -z $follower ]] || kill -- "-$follower"
  if $running; then
    say "the job goes on; the same command follows it again, \`delete\` ends it"
  else
    delete
  fi
}

case ${1:-run} in
  delete)
    delete
    exit
    ;;
  logs)
    follow
    exit
    ;;
esac

[[ -z $BUCKET ]] || gcloud storage buckets describe "gs://$BUCKET" --project="$PROJECT" \
  --format='value(name)' >/dev/null 2>&1 || fail "found no bucket $BUCKET, expected one"
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
[[ $(state) == NONE ]] || running=true # perhaps: it was there before
code=
while [[ -z $code ]]; do
  wait_until_active
  start
  running=true
  follow
  lines=20
  if [[ $(state) == ACTIVE ]]; then
    code=$(on 0 'cat run/code' 2>/dev/null) || code=
  fi
done
running=false
say "the job has ended with exit code $code"
exit "$code"
