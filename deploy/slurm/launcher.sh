#!/usr/bin/env bash
# `study.launcher` inside a SLURM job: torchrun once per node, one process per GPU; they meet at this, the first node.
# The job's sizes are read here, not written in params.yaml: another allocation does not make a stage stale.
set -euo pipefail
exec srun --ntasks-per-node=1 --cpus-per-task="$SLURM_CPUS_ON_NODE" --kill-on-bad-exit=1 \
  torchrun --nnodes "$SLURM_JOB_NUM_NODES" --nproc-per-node "${SLURM_GPUS_ON_NODE:-1}" \
  --rdzv-backend c10d --rdzv-id "$SLURM_JOB_ID" \
  --rdzv-endpoint "$(hostname --all-ip-addresses | cut -d ' ' -f 1):29500" "$@"
