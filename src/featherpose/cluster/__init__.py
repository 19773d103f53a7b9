"""Beyond one machine: batches over archives, and the server on many machines, both on Ray (the ``cluster`` extra)."""

from featherpose.cluster.batch_options import BatchOptions, DetectionOptions
from featherpose.cluster.run_batch import BatchProgress, BatchSummary, run_batch
from featherpose.cluster.serving import ReplicaOptions, Served, serve

__all__ = [
    "BatchOptions",
    "BatchProgress",
    "BatchSummary",
    "DetectionOptions",
    "ReplicaOptions",
    "Served",
    "run_batch",
    "serve",
]
