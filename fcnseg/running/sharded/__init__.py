"""Runs in shards: a plan and manifests on a storage, for outputs in buckets and for clusters."""
