#!/usr/bin/env bash
# `study.launcher` inside a SLURM job: torchrun once per node, one process per GPU; they meet at this, the first node.
# The job's sizes are read here, not written in params.yaml: another allocation does not make a stage stale.
set -euo pipefail
# an address, a rank and an interface, since a host's own name often means 127.0.1.1 to itself: by it, nobody would meet
address=$(hostname --all-ip-addresses | cut -d ' ' -f 1)
# shellcheck disable=SC2016 # read on each node
on_each='
own=$(hostname --all-ip-addresses | cut -d " " -f 1)
export GLOO_SOCKET_IFNAME=${GLOO_SOCKET_IFNAME:-$(ip -oneline address show to "$own" | cut -d " " -f 2)}
exec torchrun --node-rank "$SLURM_NODEID" "$@"'
exec srun --ntasks-per-node=1 --cpus-per-task="$SLURM_CPUS_ON_NODE" --kill-on-bad-exit=1 \
  bash -euc "$on_each" torchrun \
  --nnodes "$SLURM_JOB_NUM_NODES" --nproc-per-node "${SLURM_GPUS_ON_NODE:-1}" \
  --master-addr "$address" --master-port 29500 "$@"
