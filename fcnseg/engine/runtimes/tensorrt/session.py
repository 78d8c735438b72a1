"""One TensorRT execution context: the tensors and profiles of its plan, and its execution. Every status is checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from fcnseg.engine.runtimes.common import output_names
from fcnseg.engine.runtimes.streams import CudaStreams
from fcnseg.engine.runtimes.tensorrt.kernels import KernelCache
from fcnseg.engine.runtimes.tensorrt.library import TensorRTLibrary
from fcnseg.errors import EngineError, ImageError, TooLargeError
from fcnseg.recipes import MODALITIES, Recipe

TYPES = {"UINT8": torch.uint8, "INT32": torch.int32, "FLOAT": torch.float32, "HALF": torch.float16}
"""The tensor types of fcnseg's plans, by TensorRT's names."""

Size = tuple[int, ...]


@dataclass(frozen=True)
class Profile:
    """One optimisation profile: the range of (N, H, W) that the plan was built for."""

    index: int
    smallest: tuple[int, int, int]
    largest: tuple[int, int, int]

    def takes(self, height: int, width: int) -> bool:
        """Tell whether images of that size, px, are in its range."""
        low, high = self.smallest, self.largest
        return low[1] <= height <= high[1] and low[2] <= width <= high[2]

    def __str__(self) -> str:
        (_, low_height, low_width), (_, high_height, high_width) = self.smallest, self.largest
        return f"{low_width} x {low_height} to {high_width} x {high_height}"


class Session:
    """A plan, deserialised, and one context for it, used from one thread at a time and on the middle stream.

    Raises EngineError if the library refuses the plan or it is not one of this recipe's.
    """

    def __init__(
        self,
        library: TensorRTLibrary,
        plan: bytes,
        recipe: Recipe,
        probabilities: bool,
        stream: CudaStreams,
        kernels: KernelCache | None = None,
    ) -> None:
        self.library, self._stream = library, stream
        self._runtime = library.runtime()  # host code in plans stays forbidden, its default
        library.forget()
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise library.refusal("does not load the engine", "build it again with `fcnseg build-engine --force`")
        self.types = self._check_tensors(recipe, probabilities)
        self.profiles = [self._profile(i, recipe) for i in range(self._engine.num_optimization_profiles)]
        self._scratch: torch.Tensor | None = None
        self._kernels = kernels or KernelCache()
        self._context = self._kernels.start(library, self._engine)
        if self._context is None:
            raise library.refusal(
                "cannot start the engine", "free GPU memory, or build it for smaller sizes or batches"
            )

    def close(self) -> None:
        """Release the context, then the engine, then the runtime: each needs the next."""
        self._kernels.save()
        self._context = None
        self._scratch = None
        self._engine = None
        self._runtime = None

    def profile_for(self, height: int, width: int) -> Profile:
        """Return the smallest profile that takes such images. Raises TooLargeError, with the
        ranges, if none is that large, ImageError if it is too small."""
        fitting = [profile for profile in self.profiles if profile.takes(height, width)]
        if not fitting:
            message = (
                f"{width} x {height} pixels are outside what this engine was built for "
                f"({', or '.join(map(str, self.profiles))}); build one with --min-shape and --max-shape"
            )
            if any(height <= profile.largest[1] and width <= profile.largest[2] for profile in self.profiles):
                raise ImageError(message, "predict")
            raise TooLargeError(message)
        return min(fitting, key=lambda profile: profile.largest[1] * profile.largest[2])

    def shape(self, profile: Profile, inputs: Mapping[str, Size]) -> dict[str, Size]:
        """Choose the profile and the inputs' shapes; returns the shapes of all outputs."""
        context = self._context
        if context is None:
            raise EngineError("the engine is closed; use it inside its `with` block")
        self.library.forget()
        if context.active_optimization_profile != profile.index:
            try:
                context.set_optimization_profile_async(profile.index, self._stream.handle)
            except RuntimeError as error:  # the one call that does not return its status
                raise self._refused(f"profile {profile.index}") from error
        for name, shape in inputs.items():
            self._check(context.set_input_shape(name, shape), f"{name} of shape {shape}")
        try:
            missing = context.infer_shapes()
        except RuntimeError as error:
            raise self._refused(f"to infer shapes from {dict(inputs)}") from error
        self._check(not missing, f"to go without {', '.join(missing)}")
        shapes = {name: tuple(context.get_tensor_shape(name)) for name in self.types if name not in inputs}
        self._check(min(min(shape) for shape in shapes.values()) >= 0, f"to say how large its outputs are ({shapes})")
        return shapes

    def run(self, addresses: Mapping[str, int]) -> None:
        """Enqueue the network on the stream, reading and writing at these device addresses of all tensors.

        Raises DeviceError if memory does not suffice for it, and torch's error if none is left to allocate.
        """
        self._provide_scratch()
        for name, address in addresses.items():
            self._check(self._context.set_tensor_address(name, address), f"the memory of {name}")
        self._check(self._context.execute_async_v3(self._stream.handle), "to run")

    def _provide_scratch(self) -> None:
        """Give the context the memory that the shapes at hand need, from torch's: it would else hold that of the
        largest, and what it lacked would be the end of the engine instead of one image's problem."""
        context = self._context
        needed_bytes = context.update_device_memory_size_for_shapes()
        self._check(needed_bytes > 0 or not self.library.errors, "to say how much memory it needs")
        if self._scratch is None or self._scratch.numel() < needed_bytes:
            self._scratch = None  # first give back the smaller one
            self._scratch = self._stream.allocate(needed_bytes)
        if hasattr(context, "set_device_memory"):
            context.set_device_memory(self._scratch.data_ptr(), self._scratch.numel())
        else:  # TensorRT 10.0
            context.device_memory = self._scratch.data_ptr()

    def _check(self, status: bool, what: str) -> None:
        if not status:
            raise self._refused(what)

    def _refused(self, what: str) -> EngineError:
        return self.library.refusal(f"refused {what}", "build the engine again, or try --backend torch")

    def _check_tensors(self, recipe: Recipe, probabilities: bool) -> dict[str, torch.dtype]:
        """Return the type of every input and output; raises EngineError if they are not those of the recipe."""
        engine = self._engine
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        types = {name: engine.get_tensor_dtype(name).name for name in names}
        inputs = {name for name in names if engine.get_tensor_mode(name).name == "INPUT"}
        wanted = {modality: "FLOAT" if modality == "depth" else "UINT8" for modality in recipe.modalities}
        outputs = set(output_names(recipe, probabilities))
        fits = {name: types[name] for name in inputs} == wanted and set(names) - inputs == outputs
        if not fits or not set(types.values()) <= set(TYPES):
            raise EngineError(
                f"this engine's tensors are {', '.join(f'{n} {t}' for n, t in types.items())}, not those of "
                f"{recipe.name} ({', '.join([*wanted, *sorted(outputs)])}); build it again with `fcnseg build-engine`"
            )
        for modality in recipe.modalities:
            channels = self._engine.get_tensor_shape(modality)[3]
            if channels != MODALITIES[modality]:
                raise EngineError(f"this engine takes {modality} of {channels} channels; build it again")
        return {name: TYPES[kind] for name, kind in types.items()}

    def _profile(self, index: int, recipe: Recipe) -> Profile:
        """Return the range that every modality shares."""
        ranges = [self._engine.get_tensor_profile_shape(modality, index) for modality in recipe.modalities]
        smallest, _, largest = ([tuple(shape)[:3] for shape in shapes] for shapes in zip(*ranges, strict=True))
        low, high = smallest[0], largest[0]
        return Profile(index, (low[0], low[1], low[2]), (high[0], high[1], high[2]))
