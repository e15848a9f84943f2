#!/usr/bin/env bash
# The whole pipeline from scratch on real images: examples/bbbc038.sh DATA OUT, about half an hour on one core.
# DATA holds train/ and val/ with <id>_rgb.png and <id>_label.png (BBBC038, 256x256 to 360x360, CC0).
set -euo pipefail
data=${1:?usage: $0 DATA OUT}
out=${2:?usage: $0 DATA OUT}

crops() { # square crops of 64 to 160 px with at most 21 nuclei; $1 per image
    echo "{\"crop\": \"random\", \"crop_size\": [64, 160], \"crops_per_image\": $1, \"max_instances\": 21, \"min_area\": 20}"
}
networks=(--scenes "$data" --scene-options "$(crops 8)" --val-options "$(crops 4)" --out "$out/weights")

acis pretrain context --overwrite "${networks[@]}" --iterations 1000
acis pretrain decoder --overwrite "${networks[@]}" --iterations 2400
acis train bl-trunc-dice --out "$out/run" --weights "$out/weights" \
    --scenes "$data" --scene-options "$(crops 8)" --env.val-kwargs "{\"scene_options\": $(crops 4)}"
acis evaluate "$out/run" --split val
