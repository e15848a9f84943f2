#!/usr/bin/env bash
# Make the bundled weights again: examples/nuclei_224_weights.sh DATA OUT [cuda]. The card beside them has times and scores.
# DATA holds train/ and val/ with <id>_rgb.png and <id>_label.png (BBBC038, 256x256 to 360x360, CC0).
set -euo pipefail
data=${1:?usage: $0 DATA OUT [DEVICE]}
out=${2:?usage: $0 DATA OUT [DEVICE]}
device=${3:-cpu} # the published weights come from a GPU
export OMP_NUM_THREADS=1

crops() { # square crops of 128 to 256 px with 2 to 21 nuclei; $1 per image
    echo "{\"crop\": \"random\", \"crop_size\": [128, 256], \"crops_per_image\": $1, \"min_instances\": 2," \
        "\"max_instances\": 21, \"min_area\": 30}"
}
scenes=(--scenes "$data" --scene-options "$(crops 8)" --val-options "$(crops 4)" --size 224 224 --half --device "$device")
acis pretrain context --overwrite --out "$out" "${scenes[@]}" --batch-size 16 --iterations 1500 --learning-rate 2e-3
# Small nuclei are worth few nats: with a weight of 1 their codes say too little of where they are.
acis pretrain decoder --overwrite --out "$out" "${scenes[@]}" --batch-size 32 --iterations 6000 --eval-every 2000 --kl-weight 0.1
