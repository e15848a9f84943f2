#!/usr/bin/env bash
# Make networks of the paper's size for nuclei: examples/nuclei_224_weights.sh DATA OUT. No such weights are bundled.
# DATA holds train/ and val/ with <id>_rgb.png and <id>_label.png (BBBC038, 256x256 to 360x360, CC0).
set -euo pipefail
data=${1:?usage: $0 DATA OUT}
out=${2:?usage: $0 DATA OUT}
export OMP_NUM_THREADS=1

crops() { # square crops of 128 to 256 px with 2 to 21 nuclei; $1 per image
    echo "{\"crop\": \"random\", \"crop_size\": [128, 256], \"crops_per_image\": $1, \"min_instances\": 2," \
        "\"max_instances\": 21, \"min_area\": 30}"
}
scenes=(--scenes "$data" --scene-options "$(crops 8)" --val-options "$(crops 4)" --size 224 224 --batch-size 16 --half)
acis pretrain context --out "$out" "${scenes[@]}" --iterations 1500 --learning-rate 2e-3
acis pretrain decoder --out "$out" "${scenes[@]}" --iterations 2400 --eval-every 600
