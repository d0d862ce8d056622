"""Models on the Hugging Face Hub, by addresses hf://USER/NAME."""

import importlib
import re
from pathlib import Path
from typing import Any

from tinyconv.errors import InputError

PREFIX = "hf://"


def is_address(model: str) -> bool:
    """Whether `model` is an address on the Hub."""
    return model.startswith(PREFIX)


def repository(address: str) -> str:
    """The name of the repository, as USER/NAME, at an address.

    Raises:
        InputError: `address` is not of the form hf://USER/NAME.
    """
    name = address.removeprefix(PREFIX)
    if not is_address(address) or not re.fullmatch(r"[\w.-]+/[\w.-]+", name, re.ASCII):
        raise InputError(f"{address} is not the address of a model on the Hub: hf://USER/NAME.")
    return name


def library() -> Any:
    """Import huggingface_hub.

    Raises:
        InputError: huggingface_hub is not installed.
    """
    try:
        return importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise InputError(
            "huggingface_hub is needed for models on the Hub: pip install 'tinyconv[hub]'."
        ) from error


def download(address: str) -> Path:
    """The folder of the newest files of a repository, in the cache of huggingface_hub.

    Raises:
        InputError: the address is wrong, huggingface_hub is not installed, or the files cannot be
            downloaded and are not in the cache.
    """
    name = repository(address)
    hub = library()
    try:
        return Path(hub.snapshot_download(name))
    except Exception as error:  # huggingface_hub raises errors of many types
        raise InputError(
            f"{address} cannot be downloaded ({_reason(error)}); check the name and the network, "
            "and for a private model log in: hf auth login."
        ) from error


def check_token() -> None:
    """Check that this machine has a token for the Hub.

    Raises:
        InputError: it has none, or huggingface_hub is not installed.
    """
    if not library().get_token():
        raise InputError(
            "The Hub needs a token that may write: log in by hf auth login, or set HF_TOKEN."
        )


def upload(folder: Path, address: str, private: bool = False) -> str:
    """Upload the files of a folder to a repository, which is made if it does not exist.

    Args:
        folder: the folder.
        address: the address, as hf://USER/NAME.
        private: whether a new repository is private.

    Returns:
        The web address of the repository.

    Raises:
        InputError: as for `download`, or the Hub refuses the files.
    """
    name = repository(address)
    hub = library()
    try:
        api = hub.HfApi()
        made = api.create_repo(name, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=name, folder_path=folder, commit_message="Upload a model of tinyconv"
        )
    except Exception as error:  # huggingface_hub raises errors of many types
        raise InputError(
            f"{address} cannot be written ({_reason(error)}); check the name, the network, and "
            "that the token may write: hf auth login."
        ) from error
    return str(made)


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".:") if lines else type(error).__name__
