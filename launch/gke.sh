#!/usr/bin/env bash
# Trains in a Kubernetes cluster: an indexed Job of one pod a machine, and a service by which the pods find the first.
# A pod that is taken away comes again and the run goes on. IMAGE is yours, with aurljax[cuda] installed; corpus and
# workdir must be where every pod sees them: a bucket, or a claim that --volume names and that is mounted at /data.
# usage: bash launch/gke.sh --image IMAGE [--name N] [--pods N] [--gpus N] [--accelerator TYPE] [--volume CLAIM] [--dry-run] -- --config=FILE.py --workdir=DIR ...
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
source "$here/start.sh"
image="" name=aurljax pods=1 gpus=8 accelerator="" volume=""
take image name pods gpus accelerator volume __ARGS__ "$@"
[[ -n "$image" ]] || refuse "--image names what the pods run"

json() { printf '"'; printf %s "$1" | sed 's/\\/\\\\/g; s/"/\\"/g'; printf '"'; }

manifest() {
  cat <<YAML
apiVersion: v1
kind: Service
metadata: {name: $name}
spec: {clusterIP: None, publishNotReadyAddresses: true, selector: {job-name: $name}}
---
apiVersion: batch/v1
kind: Job
metadata: {name: $name}
spec:
  completionMode: Indexed
  completions: $pods
  parallelism: $pods
  backoffLimit: 100
  template:
    spec:
      subdomain: $name
      restartPolicy: OnFailure
      terminationGracePeriodSeconds: 180
YAML
  if [[ -n "$accelerator" ]]; then echo "      nodeSelector: {cloud.google.com/gke-accelerator: $accelerator}"; fi
  if [[ -n "$volume" ]]; then echo "      volumes: [{name: data, persistentVolumeClaim: {claimName: $volume}}]"; fi
  cat <<YAML
      containers:
      - name: train
        image: $(json "$image")
        command: [python, -m, aurljax.cli, train]
        args:
YAML
  for word in "${TRAIN[@]}"; do echo "        - $(json "$word")"; done
  if [[ -n "$volume" ]]; then echo "        volumeMounts: [{name: data, mountPath: /data}]"; fi
  cat <<YAML
        resources: {limits: {nvidia.com/gpu: $gpus}}
        env:
        - {name: AURLJAX_COORDINATOR, value: "$name-0.$name:8476"}
        - {name: AURLJAX_PROCESSES, value: "$pods"}
        - name: AURLJAX_PROCESS
          valueFrom: {fieldRef: {fieldPath: "metadata.annotations['batch.kubernetes.io/job-completion-index']"}}
YAML
}

if [[ -n "$DRY" ]]; then manifest; else manifest | kubectl apply -f -; fi
