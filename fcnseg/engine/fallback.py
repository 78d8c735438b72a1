"""An engine that another one stands in for where it cannot start."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from fcnseg.errors import EngineError
from fcnseg.types import Engine


class WithFallback:
    """`engine`, or what `instead` makes of its EngineError if it cannot be entered; all else is what that one does."""

    def __init__(self, engine: Engine, instead: Callable[[EngineError], Engine]) -> None:
        self._engine, self._instead = engine, instead

    def __enter__(self) -> Self:
        try:
            self._engine.__enter__()
        except EngineError as error:
            self._engine.close()
            self._engine = self._instead(error)
            self._engine.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._engine.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)
