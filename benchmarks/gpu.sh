#!/usr/bin/env bash
# All that is measured on a GPU, in parts: each call goes on where the last one ended, and ends
# within 10 minutes. When all parts are there, they are appended to BENCHMARKS.md with the card's
# name and the date.
#
#   benchmarks/gpu.sh           # again and again, until it says that all is done
#   TINY=1 benchmarks/gpu.sh    # everything small, on a CPU: whether it still works
#
# `serving` is FlashRec's protocol: 50 and 512 beams, 1, 8, 32 and 64 clients that ask one query at a
# time, of a T5-base that `workdir` trains for a few steps: how long a search takes is the same.
#
# PYTHON is the interpreter, OUT the folder of what is done (runs/gpu), RESULTS the file that is
# appended to, LIMIT the seconds of a call.
set -euo pipefail

cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python}
OUT=${OUT:-runs/gpu}
RESULTS=${RESULTS:-BENCHMARKS.md}
LIMIT=${LIMIT:-590}
export XLA_PYTHON_CLIENT_PREALLOCATE=false # PyTorch takes turns

mkdir -p "$OUT"
if [[ -n ${TINY:-} ]]; then
  export JAX_PLATFORMS=cpu
  export XLA_FLAGS="${XLA_FLAGS:-} --xla_backend_optimization_level=0" # most of it is compilation
  epochs="--documents 512 --epochs 1 --ceiling 64"
  step="--size tiny --batch 2 --rounds 1"
  search="--shape t5_1_1_tiny --batches 1 --documents 1000 --rounds 2"
  config="--config=tests/plugins/tiny.py"
  load="--beams 20 --clients 1 4 --beam_rows 40 --seconds 1"
else
  epochs="--documents 386392 --epochs 300 --ceiling 8192"
  step="--size base --batch 1024 --dtype bfloat16 --compile"
  search="--shape t5_1_1_base --batches 64 --documents 386392 --rounds 100"
  config="--config=quickstart --config.t5.emb_dim=768 --config.t5.num_heads=12"
  config+=" --config.t5.head_dim=64 --config.t5.mlp_dim=2048 --config.t5.num_encoder_layers=12"
  config+=" --config.t5.num_decoder_layers=12 --config.t5.dtype=bfloat16"
  config+=" --config.rqvae_training.epochs=0 --config.rqvae_training.steps=200"
  config+=" --config.seq2seq_training.epochs=0 --config.seq2seq_training.steps=20"
  load="--beams 50 512 --clients 1 8 32 64 --beam_rows 65536 --seconds 20"
fi
declare -A commands=(
  [tests]="-m pytest -n 0 -m gpu tests/gpu"
  [stage_1_bfloat16]="benchmarks/rqvae_epochs.py --dtype bfloat16 $epochs"
  [stage_1_float32]="benchmarks/rqvae_epochs.py --dtype float32 $epochs"
  [stage_2]="benchmarks/seq2seq_step.py $step"
  [search]="benchmarks/search.py $search"
  [workdir]="-m catid2_jax.train --workdir=$OUT/workdir --config.stage=seq2seq $config"
  [serving]="benchmarks/serve_load.py --workdir $OUT/workdir --no-peer $load"
)
parts=(tests stage_1_bfloat16 stage_1_float32 stage_2 search workdir serving)

card=$("$PYTHON" -c 'import jax; d = jax.devices()[0]; print(d.platform, d.device_kind, sep="|")')
if [[ -z ${TINY:-} && $card != gpu\|* ]]; then
  echo "error: found the device ${card#*|}, expected a GPU, or TINY=1" >&2
  exit 2
fi

running=
trap '[[ -z $running ]] || kill "$running" || true; wait; exit 143' INT TERM HUP
for part in "${parts[@]}"; do
  result=$OUT/$part.txt
  [[ ! -e $result ]] || continue
  left=$((LIMIT - SECONDS))
  if ((left < LIMIT / 20)); then
    echo "$part is next: run it again"
    exit 3
  fi
  echo "$part: $PYTHON ${commands[$part]}"
  begun=$SECONDS
  code=0
  # shellcheck disable=SC2086
  timeout --kill-after=10 "$left" "$PYTHON" ${commands[$part]} >"$result.part" 2>"$OUT/$part.log" &
  running=$!
  wait "$running" || code=$?
  running=
  case $code in
    0) ;;
    124 | 137)
      if ((begun == 0 || left > LIMIT * 9 / 10)); then
        echo "error: $part: found no end in $left s, expected one" >&2
        exit 2
      fi
      echo "$part did not end in the $left s that were left: run it again"
      exit 3
      ;;
    *)
      tail -n 20 "$OUT/$part.log" >&2
      echo "error: $part: found exit code $code, expected 0; all it said is in $OUT/$part.log" >&2
      exit 2
      ;;
  esac
  mv "$result.part" "$result"
done

versions=$("$PYTHON" -c 'import jax, platform; print(f"jax {jax.__version__}, Python {platform.python_version()}")')
{
  printf '\n## On %s, %s\n\n' "${card#*|}" "$(date +%F)"
  echo "$versions; \`benchmarks/gpu.sh\`${TINY:+ in tiny sizes}."
  for part in "${parts[@]}"; do
    [[ $part != workdir ]] || continue # it measures nothing
    printf '\n### %s\n\n    python %s\n\n' "$part" "${commands[$part]}"
    cat "$OUT/$part.txt"
  done
} >>"$RESULTS"
kept=$(mktemp -d "$OUT/$(date +%F)-XXXX")
mv "$OUT"/*.txt "$OUT"/*.log "$kept"
echo "all is done and appended to $RESULTS"
