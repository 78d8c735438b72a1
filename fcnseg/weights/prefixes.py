"""One prefix that all names of a file have, as wrappers of a network leave it: `module.`, `model.`, `_orig_mod.`"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fcnseg.weights.tensors import Array, quoted

AVERAGED = "n_averaged"
"""The count of updates that `torch.optim.swa_utils.AveragedModel` keeps beside its `module.` names."""


def forms(tensors: Mapping[str, Array]) -> Iterator[tuple[Mapping[str, Array], tuple[str, ...]]]:
    """Yield tensors under their own names, then without each part of the prefix that all names share, and a line
    about that."""
    yield tensors, ()
    counter = tensors.get(AVERAGED)
    averaged = counter is not None and counter.size == 1
    named = {name: array for name, array in tensors.items() if not (averaged and name == AVERAGED)}
    parts = [name.split(".") for name in named]
    shortest = min(map(len, parts), default=0)
    depth = 0
    while depth + 2 < shortest and len({words[depth] for words in parts}) == 1:
        depth += 1
        prefix = ".".join(parts[0][:depth]) + "."
        note = f"the prefix {quoted(prefix)} was taken off all names"
        if averaged:
            note += f", and {AVERAGED}, a count, left out"
        yield {name.removeprefix(prefix): array for name, array in named.items()}, (note,)
