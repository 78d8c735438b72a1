"""Measure the speed of a plan on the GPU that it was just built for."""

from __future__ import annotations

import time
from math import inf, prod

from fcnseg.engine.hardware import cuda_capability
from fcnseg.engine.runtimes.pytorch import find_device
from fcnseg.engine.runtimes.streams import CudaStreams
from fcnseg.engine.runtimes.tensorrt.library import load_library
from fcnseg.engine.runtimes.tensorrt.plan import Plan
from fcnseg.engine.runtimes.tensorrt.session import Session
from fcnseg.errors import DeviceError, is_out_of_memory
from fcnseg.recipes import MODALITIES, Recipe, Shapes

WARM_UP = 5
RUNS = 20


def has_gpu() -> bool:
    """Tell whether plans can be run here."""
    return bool(cuda_capability())


def image_seconds(library: str, plan: Plan, recipe: Recipe, shapes: Shapes, probabilities: bool = False) -> float:
    """Return the seconds that an image of the typical size takes in full batches, without copies to and from the GPU.

    Batches that its memory does not hold are halved; infinity if it holds no image.
    """
    stream = CudaStreams(find_device("cuda"))
    with stream.current():
        session = Session(load_library(library), bytes(plan.content), recipe, probabilities, stream)
        try:
            batch = shapes.max_batch
            while batch:
                try:
                    return _batch_seconds(session, stream, recipe, batch, shapes.typical) / batch
                except (DeviceError, RuntimeError) as error:
                    if not (isinstance(error, DeviceError) or is_out_of_memory(error)):
                        raise
                    batch //= 2
            return inf
        finally:
            session.close()
            stream.give_back()


def _batch_seconds(session: Session, stream: CudaStreams, recipe: Recipe, batch: int, size: tuple[int, int]) -> float:
    inputs: dict[str, tuple[int, ...]] = {m: (batch, *size, MODALITIES[m]) for m in recipe.modalities}
    shapes = {**inputs, **session.shape(session.profile_for(*size), inputs)}
    tensors = {name: stream.allocate(prod(shape) * session.types[name].itemsize) for name, shape in shapes.items()}
    addresses = {name: tensor.data_ptr() for name, tensor in tensors.items()}
    for _ in range(WARM_UP):
        session.run(addresses)
    stream.synchronize()
    begin = time.perf_counter()
    for _ in range(RUNS):
        session.run(addresses)
    stream.synchronize()
    return (time.perf_counter() - begin) / RUNS
