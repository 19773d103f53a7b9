"""Batches made in advance, so that a training step never waits for images."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

from featherpose.data.dataset import Batch, EpochSampler, PoseDataset, collate

__all__ = ["load_batches"]


def load_batches(dataset: PoseDataset, sampler: EpochSampler, size: int, *, threads: int) -> Generator[Batch]:
    """Make batches in the sampler's order, in threads: OpenCV and the encoder release the interpreter.

    Args:
        dataset: Makes the samples.
        sampler: Their order and end.
        size: Samples of a batch.
        threads: Batches made at the same time; two more wait ready.

    Raises:
        DatasetError: If an image cannot be read.
    """

    def make(keys: list[tuple[int, int]]) -> Batch:
        return collate([dataset[key] for key in keys])

    pending: deque[Future[Batch]] = deque()
    keys = iter(sampler)
    with ThreadPoolExecutor(threads, thread_name_prefix="load") as pool:
        try:
            while True:
                while len(pending) < threads + 2 and (share := list(islice(keys, size))):
                    pending.append(pool.submit(make, share))
                if not pending:
                    return
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
