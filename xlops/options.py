"""``set_options``: the one place for settings that outlive a call."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Literal, TypedDict

__all__ = ["set_options"]


class Options(TypedDict):
    """All settings and their types."""

    display_width: int
    progress: bool


_options: Options = {"display_width": 88, "progress": False}

_valid = {
    "display_width": (
        "an integer of at least 40",
        lambda v: isinstance(v, int) and not isinstance(v, bool) and v >= 40,
    ),
    "progress": ("True or False", lambda v: isinstance(v, bool)),
}


def get_option(name: Literal["display_width", "progress"]) -> Any:
    """The value of one setting."""
    return _options[name]


class set_options:
    """Change settings, for good or inside a ``with`` block.

    Parameters
    ----------
    display_width : int, optional
        Columns that a ``repr`` may use (default 88, at least 40).
    progress : bool, optional
        Whether solvers show a progress bar when the call does not say (default False).

    Raises
    ------
    ValueError
        For an unknown setting or a value that it cannot take; nothing is changed then.

    Examples
    --------
    >>> import xlops as xl
    >>> with xl.set_options(display_width=60):
    ...     pass
    """

    def __init__(self, **settings: Any) -> None:
        for name, value in settings.items():
            if name not in _valid:
                known = ", ".join(sorted(_valid))
                raise ValueError(f"set_options: no setting {name!r}; there are {known}")
            wanted, accepts = _valid[name]
            if not accepts(value):
                raise ValueError(f"set_options: {name} must be {wanted}, got {value!r}")
        self._before = {name: _options[name] for name in settings}  # type: ignore[literal-required]
        _options.update(settings)  # type: ignore[typeddict-item]

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _options.update(self._before)  # type: ignore[typeddict-item]
