#!/usr/bin/env bash
# Make the bundled weights again: examples/cars_weights.sh OUT. The card beside the weights has times and scores.
set -euo pipefail
out=${1:?usage: $0 OUT}
export OMP_NUM_THREADS=1 # the published weights come from one thread
scenes="--scenes dataset:cars --size 64 192 --augmentation.no-quarter-turns"
acis pretrain context --overwrite --out "$out" $scenes --iterations 800 --batch-size 16 --learning-rate 2e-3 --eval-every 400 --half
acis pretrain decoder --overwrite --out "$out" $scenes --iterations 1600 --batch-size 16 --eval-every 400 --latent-size 32 --half
