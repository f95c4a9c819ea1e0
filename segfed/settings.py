"""Settings files: frozen models, strict about names, with every problem listed at once."""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from segfed.errors import ConfigError


class Settings(BaseModel):
    """Immutable, and strict about names: a misspelt key is an error, not a default."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Model = TypeVar("Model", bound=Settings)


def load_toml(path: Path, model: type[Model], *, kind: str) -> Model:
    """Read a TOML file into a settings model.

    Args:
        path: The file.
        model: The settings class that the file's tables fill.
        kind: What the file is, for messages: "task", "site", "study".

    Raises:
        ConfigError: If the file is missing, is not TOML, or breaks a rule. The message lists
            every problem with its key, not only the first.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"No {kind} file at {path}. Check the path, or create the file first."
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}. Correct that line.") from error
    return validated(raw, model, source=str(path))


def load_json(path: Path, model: type[Model], *, kind: str) -> Model:
    """Read a JSON file into a settings model.

    Raises:
        ConfigError: If the file is missing, is not JSON, or breaks a rule.
    """
    try:
        raw = json.loads(path.read_bytes(), parse_constant=_refuse_constant)
    except FileNotFoundError:
        raise ConfigError(f"No {kind} at {path}. Check the path, or ask for the file.") from None
    except ValueError as error:
        raise ConfigError(
            f"{path} is not valid JSON ({error}); expected a {kind}. Get the file again."
        ) from error
    return validated(raw, model, source=str(path))


def validated(raw: Any, model: type[Model], *, source: str) -> Model:
    """Fill a settings model from plain data, explaining every problem.

    Raises:
        ConfigError: If the data breaks a rule; ``source`` names where it came from.
    """
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        known = _known_keys(model)
        problems = "\n".join(f"  {_explain(item, known)}" for item in error.errors())
        count = error.error_count()
        raise ConfigError(
            f"{source} has {count} problem{'s' if count > 1 else ''}:\n{problems}"
        ) from error


def toml_table(content: Mapping[str, Any]) -> str:
    """The lines of a TOML table, whose values are those of JSON; what is None is left out."""
    # As they are: JSON escapes rare characters as pairs, which TOML does not know.
    texts = {k: json.dumps(v, ensure_ascii=False) for k, v in content.items() if v is not None}
    return "".join(f"{key} = {text}\n" for key, text in texts.items())


def _refuse_constant(name: str) -> NoReturn:
    """Python reads NaN and Infinity, which are no JSON."""
    raise ValueError(f"{name} is no number in JSON")


def _explain(item: ErrorDetails, known: Mapping[str, list[str]]) -> str:
    """One line per problem: the dotted key, what is wrong, and the likely fix."""
    path = [str(part) for part in item["loc"]] or ["file"]
    key, name = ".".join(path), path[-1]
    if item["type"] == "missing":
        return f"{key}: is missing, and has no default"
    if item["type"] != "extra_forbidden":
        found = "" if item["type"] == "value_error" else f" (found {item['input']!r})"
        return f"{key}: {item['msg'].removeprefix('Value error, ')}{found}"
    return f"{key}: unknown key{_hint(name, '.'.join(path[:-1]), known)}"


def _hint(name: str, table: str, known: Mapping[str, list[str]]) -> str:
    """Where an unknown key of a table probably belongs, or what the table may hold."""
    if homes := [other for other in known if name in known[other]]:
        places = " or ".join(
            f"into [{home}]" if home else "above the first [table]" for home in homes
        )
        return f"; it belongs {places}"
    here = known.get(table) or sorted({key for keys in known.values() for key in keys})
    if close := difflib.get_close_matches(name, here, n=1):
        return f"; did you mean {close[0]!r}?"
    for other, keys in known.items():
        if close := difflib.get_close_matches(name, keys, n=1):
            place = f"of [{other}]" if other else "above the first [table]"
            return f"; did you mean {close[0]!r} {place}?"
    return f"; known keys: {', '.join(here)}"


def _known_keys(model: type[BaseModel], table: str = "") -> dict[str, list[str]]:
    """Names of a model's fields by dotted table, those of nested models included."""
    known = {table: sorted(model.model_fields)}
    for name, field in model.model_fields.items():
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                known |= _known_keys(kind, f"{table}.{name}".lstrip("."))
    return known
