#!/usr/bin/env bash
#SBATCH --job-name=aurljax
#SBATCH --ntasks-per-node=1
#SBATCH --signal=TERM@180
#SBATCH --requeue
#SBATCH --open-mode=append
# Trains on nodes of a Slurm cluster, one process a node with all its GPUs; processes find each other by what srun tells
# them. Before the time is up each is told, saves and stops; sent in again, the run goes on. Called where jobs are sent
# in, it installs into .venv (on a disk that the nodes share) and hands itself to sbatch.
# usage: bash launch/slurm.sh [--nodes N] [--gpus N] [--time T] [--partition P] [--account A] [--dry-run] -- --config=FILE.py --workdir=DIR ...
set -euo pipefail
if [[ -n "${AURLJAX_ROOT:-}" ]]; then here="$AURLJAX_ROOT/launch"; else here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"; fi
source "$here/setup.sh"
source "$here/env.sh"
source "$here/start.sh"
nodes=1 gpus=8 time=24:00:00 partition="" account=""
take nodes gpus time partition account __ARGS__ "$@"
if [[ -n "${AURLJAX_ROOT:-}" && -n "${SLURM_JOB_ID:-}" ]]; then
  go exec srun --kill-on-bad-exit=1 --chdir="$ROOT" "$VENV/bin/python" -m aurljax.cli train "${TRAIN[@]}"
  exit
fi
go setup cuda
options=(--nodes="$nodes" --gpus-per-node="$gpus" --time="$time" --export="ALL,AURLJAX_ROOT=$ROOT")
if [[ -n "$partition" ]]; then options+=(--partition="$partition"); fi
if [[ -n "$account" ]]; then options+=(--account="$account"); fi
go sbatch "${options[@]}" "$here/slurm.sh" -- "${TRAIN[@]}"
