#!/usr/bin/env bash
# Make the bundled weights again: examples/leaves_224_weights.sh OUT. The card beside the weights has times and scores.
set -euo pipefail
out=${1:?usage: $0 OUT}
export OMP_NUM_THREADS=1 # the published weights come from one thread
plants='{"min_leaves": 2, "max_leaves": 20}' # as many as the plants of CVPPP's A1 have
scenes=(--scenes leaves --scene-options "$plants" --val-options "$plants" --size 224 224 --batch-size 16 --half)
acis pretrain context --overwrite --out "$out" "${scenes[@]}" --iterations 1000 --learning-rate 2e-3
acis pretrain decoder --overwrite --out "$out" "${scenes[@]}" --iterations 2400 --eval-every 600
