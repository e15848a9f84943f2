#!/usr/bin/env bash
# Make the bundled weights again: examples/leaves_weights.sh OUT. The card beside the weights has times and scores.
set -euo pipefail
out=${1:?usage: $0 OUT}
export OMP_NUM_THREADS=1 # the published weights come from one thread
acis pretrain context --overwrite --out "$out" --iterations 1500 --half
acis pretrain decoder --overwrite --out "$out" --iterations 1800 --half
