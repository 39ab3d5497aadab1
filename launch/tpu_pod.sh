#!/usr/bin/env bash
# Trains on all workers of a TPU pod: copies what is committed here to each, installs there, starts one process a worker.
# Corpus and workdir must be where every worker sees them, such as a bucket or a mounted disk.
# usage: bash launch/tpu_pod.sh --name POD --zone ZONE [--project P] [--dry-run] -- --config=FILE.py --workdir=DIR ...
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
source "$here/start.sh"
name="" zone="" project=""
take name zone project __ARGS__ "$@"
[[ -n "$name" && -n "$zone" ]] || refuse "--name and --zone say which pod"
where=(--zone="$zone" --worker=all)
if [[ -n "$project" ]]; then where+=(--project="$project"); fi
packed="$(mktemp -d)/aurljax.tar.gz"
trap 'rm -rf "$(dirname "$packed")"' EXIT
go git -C "$here/.." archive --format=tar.gz --output="$packed" HEAD
go gcloud compute tpus tpu-vm scp "$packed" "$name:aurljax.tar.gz" "${where[@]}"
go gcloud compute tpus tpu-vm ssh "$name" "${where[@]}" --command="mkdir -p aurljax && tar -xzf aurljax.tar.gz -C aurljax \
&& bash aurljax/launch/workstation.sh --extra tpu -- $(quoted "${TRAIN[@]}" --coordinator=auto)"
