"""Reads a YAML file whose document is a mapping."""

from pathlib import Path
from typing import Any

from overlay_net.model.errors import ConfigurationError


def read_mapping(path: Path, what: str) -> dict[str, Any] | None:
    """Return the mapping in a file, or None if the file is empty; the keys must be strings.

    Raises ConfigurationError with one line that begins with ``what``, such as ``kubeconfig``, and the path.
    """
    # An agent in a pod reads no YAML.
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{what} {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{what} {path}: invalid YAML: {' '.join(str(error).split())}") from None
    if content is None:
        return None
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ConfigurationError(f"{what} {path}: must be a mapping, not {type(content).__name__}")
    return content
