#!/usr/bin/env bash
# Make the bundled weights again: examples/cars_256_weights.sh OUT [cuda]. The card beside them has times and scores.
set -euo pipefail
out=${1:?usage: $0 OUT [DEVICE]}
device=${2:-cpu} # the published weights come from a GPU
export OMP_NUM_THREADS=1
# 2700 streets are what fits into 2 GiB, the memory that scenes may take; more would be streamed.
scenes=(--scenes cars --scene-options '{"length": 2700}' --val-options '{}' --size 256 768 --augmentation.no-quarter-turns --half --device "$device")
acis pretrain context --overwrite --out "$out" "${scenes[@]}" --batch-size 16 --iterations 1000 --learning-rate 2e-3
acis pretrain decoder --overwrite --out "$out" "${scenes[@]}" --batch-size 32 --iterations 2400 --eval-every 400 --latent-size 64 --kl-weight 0.1
