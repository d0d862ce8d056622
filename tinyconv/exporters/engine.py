"""onnxruntime-web, which runs a net in a browser: its files here, or their addresses on a CDN."""

import base64
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tinyconv import atomic, saving
from tinyconv.errors import InputError

VERSION = "1.30.0"
SCRIPT, WASM = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"
DIGESTS = {  # of VERSION, for files that come over the network
    SCRIPT: "sha384-PLWz+nHEVHpjwBsO0YVdvQj6n5814Iv8E3b8FG0Rp/uIAtjFMCKOpP66iPzedrIG",
    WASM: "sha384-vjBJ1z7qrhkTyYsNqKeF6c7N+nOJSU94czEo+tvZcu8G75JparGq9kB+kTnEUNVM",
}
CDN = "https://cdn.jsdelivr.net"
INSTALLED = Path("node_modules", "onnxruntime-web")
PATIENCE = 600  # seconds for npm to download 33 MB


@dataclass(frozen=True)
class Engine:
    """The files of onnxruntime-web.

    Args:
        folder: the folder of the files, or None if the page loads them from the CDN.
        version: the version of the npm package.
    """

    folder: Path | None
    version: str = VERSION

    def put(self, target: Path) -> dict[str, str | dict[str, str]]:
        """Copy the files into the folder `target`. Return their addresses and digests."""
        base = f"{CDN}/npm/onnxruntime-web@{self.version}/dist"
        digests = dict(DIGESTS)
        if self.folder:
            base = f"onnxruntime-web-{self.version}"
            (target / base).mkdir()
            for name in DIGESTS:
                shutil.copyfile(self.folder / name, target / base / name)
                digests[name] = integrity(self.folder / name)
        script, wasm = ({"url": f"{base}/{x}", "integrity": digests[x]} for x in (SCRIPT, WASM))
        return {"version": self.version, "script": script, "wasm": wasm}


def integrity(file: Path) -> str:
    """The digest of a file, as browsers take it."""
    return f"sha384-{base64.b64encode(hashlib.sha384(file.read_bytes()).digest()).decode()}"


def find(runtime: Path | None) -> Engine:
    """Find onnxruntime-web: in `runtime`, in `node_modules`, in the cache, by npm, or on the CDN.

    Args:
        runtime: a folder of the npm package, or its `dist`.

    Raises:
        InputError: `runtime` does not have the files.
    """
    if runtime:
        if engine := _in(runtime):
            return engine
        raise InputError(
            f"{runtime} lacks {SCRIPT} or {WASM}; name a folder of the npm package "
            "onnxruntime-web, or its dist."
        )
    cached = saving.keras_home() / "tinyconv" / f"onnxruntime-web-{VERSION}"
    engine = _in(INSTALLED) or _in(cached)
    if engine is None and (npm := shutil.which("npm")):
        _fetch(npm, cached)
        engine = _in(cached)
    if engine is None:
        print(
            f"onnxruntime-web is not here, and npm did not fetch it; the page will load it from "
            f"{CDN}. --runtime DIR copies it into the folder.",
            file=sys.stderr,
        )
    return engine or Engine(None)


def _in(folder: Path) -> Engine | None:
    """The engine in a folder of the npm package or in its `dist`, if all files are there."""
    dist = folder / "dist" if (folder / "dist").is_dir() else folder
    if not all((dist / name).is_file() for name in DIGESTS):
        return None
    described = next((p for p in (dist.parent, dist) if (p / "package.json").is_file()), None)
    if described is None:
        return Engine(dist)
    try:
        known = json.loads((described / "package.json").read_text(encoding="utf-8"))
        return Engine(dist, str(known["version"]))
    except (ValueError, KeyError, TypeError):
        return Engine(dist)


def _fetch(npm: str, cached: Path) -> None:
    """Fetch `VERSION` by npm into `cached`, unless npm fails or the files have other digests."""
    print(f"npm fetches onnxruntime-web {VERSION} (33 MB)", file=sys.stderr)
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=atomic.PARTIAL, dir=cached.parent) as folder:
            package = f"onnxruntime-web@{VERSION}"
            subprocess.run(
                [npm, "pack", "--silent", "--fetch-retries=1", "--fetch-timeout=30000", package],
                cwd=folder,
                check=True,
                timeout=PATIENCE,
                capture_output=True,
            )
            (archive,) = Path(folder).glob("*.tgz")
            whole = Path(folder, "whole")
            whole.mkdir()
            with tarfile.open(archive) as packed:
                for name in DIGESTS:
                    member = packed.extractfile(f"package/dist/{name}")
                    (whole / name).write_bytes(member.read() if member else b"")
            if all(integrity(whole / name) == digest for name, digest in DIGESTS.items()):
                whole.rename(cached)
    except (OSError, subprocess.SubprocessError, tarfile.TarError, KeyError, ValueError):
        return
