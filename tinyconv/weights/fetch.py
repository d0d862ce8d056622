"""Downloads of published files into the cache of Keras, and the check of their digests."""

import contextlib
import hashlib
import os
import re
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from tinyconv import __version__, saving
from tinyconv.atomic import PARTIAL
from tinyconv.errors import InputError
from tinyconv.facts import Weights

HUB = "https://huggingface.co"
STATED = "X-Linked-Etag"  # the header in which the Hub states the sha256 of a file
OLD = 3600  # seconds after which a partial file has no process that still writes it
TIMEOUT = 30  # seconds without an answer
CHUNK = 2**16
LARGEST = 2**28  # bytes; no published file is as large
TRUE = ("1", "ON", "YES", "TRUE")  # values of HF_HUB_OFFLINE, as huggingface_hub has them


def cache() -> Path:
    """The folder of downloaded weights in the cache of Keras."""
    return saving.keras_home() / "models" / "tinyconv"


def weights(net: str, published: Weights) -> Path:
    """The file of published weights in the cache. It is downloaded if it is not there.

    Args:
        net: the name of the net.
        published: a row of the registry.

    Raises:
        InputError: as for `fetch`.
    """
    alternative = ", or convert one of your own: create_model(NET, pretrained=FILE)"
    return fetch(f"{net}.{published.tag}", published.url, published.digest, alternative)


def is_cached(net: str, published: Weights) -> bool:
    """Whether published weights are in the cache, undamaged."""
    return find(f"{net}.{published.tag}", published.url, published.digest) is not None


def find(name: str, url: str, digest: str | None) -> Path | None:
    """Find a file in the cache.

    Args:
        name: the name of the file without its ending and its digest.
        url: its address.
        digest: as for `fetch`.

    Returns:
        The path of the file if it is there, and if its content has the digest in its name.
    """
    known = digest.partition(":")[2] if digest else "?" * 64
    for path in sorted(cache().glob(f"{name}-{known}{_ending(url)}")):
        algorithm = digest.partition(":")[0] if digest else "sha256"
        if _matches(path, algorithm, path.name.removesuffix(_ending(url)).rpartition("-")[2]):
            return path
    return None


def fetch(name: str, url: str, digest: str | None, alternative: str = "") -> Path:
    """Find a file in the cache, or download it.

    The environment variables `HF_ENDPOINT`, `HF_TOKEN` and `HF_HUB_OFFLINE` have the meaning that
    they have for huggingface_hub. `TINYCONV_WEIGHTS_MIRROR` is an address that replaces the scheme
    and the host of every address.

    Args:
        name: the name of the file in the cache, without its ending and its digest.
        url: its address. A `.zip` holds the file.
        digest: the algorithm and the digest, or its beginning, as in "sha256:4118986f". None: the
            server must state the sha256.
        alternative: the end of the error message, on what to do without the download.

    Returns:
        The path of the file, whose content has the digest.

    Raises:
        InputError: the file cannot be downloaded or written, or has another digest.
    """
    if found := find(name, url, digest):
        return found
    folder = cache()
    target = folder / f"{name}-{digest.partition(':')[2] if digest else 'SHA256'}{_ending(url)}"
    address = _address(url)
    try:
        if os.environ.get("HF_HUB_OFFLINE", "").upper() in TRUE:
            raise _RefusedError("HF_HUB_OFFLINE is set")
        folder.mkdir(parents=True, exist_ok=True)
        _remove_old(folder)
        handle, partial = tempfile.mkstemp(dir=folder, prefix=PARTIAL)
        path = Path(partial)
        try:
            with os.fdopen(handle, "wb") as file:
                stated = _download(address, file, name)
            if url.endswith(".zip"):
                _unzip(path)
            algorithm, _, expected = (digest or f"sha256:{stated}").partition(":")
            if not _matches(path, algorithm, expected):
                raise _RefusedError(_difference(path, algorithm, expected))
            target = target.with_name(f"{name}-{expected}{_ending(url)}")
            path.chmod(0o644)  # that of a temporary file is 0600
            path.replace(target)
        finally:
            path.unlink(missing_ok=True)
    except (OSError, HTTPException, zipfile.BadZipFile, _RefusedError, ValueError) as error:
        reason = " ".join(_reason(error).split())
        raise InputError(
            f"{address} cannot be fetched ({reason}); put the file at {target}{alternative}."
        ) from error
    return target


class _RefusedError(Exception):
    """A download that is not used."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, and keeps the sha256 that the first answer states."""

    stated: str | None = None

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        self.stated = self.stated or _stated(headers)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _stated(headers: Any) -> str | None:
    """The sha256 that an answer states."""
    value = (headers.get(STATED) or "").strip('"').lower()
    return value if re.fullmatch("[0-9a-f]{64}", value) else None


def _address(url: str) -> str:
    """The address to download from instead of `url`."""
    endpoint = os.environ.get("HF_ENDPOINT")
    if endpoint and url.startswith(f"{HUB}/"):
        url = endpoint.rstrip("/") + url.removeprefix(HUB)
    if mirror := os.environ.get("TINYCONV_WEIGHTS_MIRROR"):
        url = mirror.rstrip("/") + urllib.parse.urlsplit(url).path
    return url


def _download(address: str, file: IO[bytes], name: str) -> str | None:
    """Write the content of `address` to `file`, and return the sha256 that the server states."""
    request = urllib.request.Request(address, headers={"User-Agent": f"tinyconv/{__version__}"})
    hub = os.environ.get("HF_ENDPOINT", HUB).rstrip("/")
    if (token := os.environ.get("HF_TOKEN")) and address.startswith(f"{hub}/"):
        # A redirect to another host must not take the token along.
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    redirects = _Redirects()
    with urllib.request.build_opener(redirects).open(request, timeout=TIMEOUT) as answer:
        length = int(answer.headers.get("Content-Length") or 0)
        print(f"{name}: downloading {address}", file=sys.stderr)
        with tqdm(total=length or None, unit="B", unit_scale=True, leave=False) as progress:
            count = 0
            while chunk := answer.read(CHUNK):
                count += len(chunk)
                if count > LARGEST:
                    raise _RefusedError("it is larger than any file of weights")
                file.write(chunk)
                progress.update(len(chunk))
        if length and count != length:
            raise _RefusedError(f"it was cut off after {count:,} of {length:,} bytes")
        return redirects.stated or _stated(answer.headers)


def _unzip(path: Path) -> None:
    """Replace an archive by the only file in it."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if len(members) != 1 or members[0].file_size > LARGEST:
            raise _RefusedError("the archive does not hold one file")
        content = archive.read(members[0])
    path.write_bytes(content)


def _matches(path: Path, algorithm: str, expected: str) -> bool:
    return hashlib.new(algorithm, path.read_bytes()).hexdigest().startswith(expected)


def _difference(path: Path, algorithm: str, expected: str) -> str:
    if expected == "None":
        return "the server does not state its sha256"
    with path.open("rb") as file:
        if file.read(512).lstrip().startswith(b"<"):
            return "the answer is a web page, as of a proxy"
    found = hashlib.new(algorithm, path.read_bytes()).hexdigest()
    return f"its {algorithm} begins {found[:8]}, not {expected[:8]}"


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        error = error.reason if isinstance(error.reason, Exception) else error
    if isinstance(error, TimeoutError):
        return f"no answer within {TIMEOUT} seconds"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return str(error) or type(error).__name__


def _ending(url: str) -> str:
    return Path(urllib.parse.urlsplit(url).path.removesuffix(".zip")).suffix


def _remove_old(folder: Path) -> None:
    """Remove the partial files of processes that were killed."""
    for partial in folder.glob(f"{PARTIAL}*"):
        with contextlib.suppress(FileNotFoundError):  # another process may have removed it
            if time.time() - partial.stat().st_mtime > OLD:
                partial.unlink()
