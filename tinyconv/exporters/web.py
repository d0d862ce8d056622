"""A page for browsers: a folder with the ONNX file, the page, and the runtime onnxruntime-web.

The page resizes pictures as `tinyconv predict` does, and sends no picture anywhere.
"""

import json
import shutil
from html import escape
from pathlib import Path
from string import Template

import keras
import numpy as np

from tinyconv import exporters
from tinyconv.exporters import About, Format, Runtime, engine, onnx

PAGE = Path(__file__).parent / "page"
MODEL = "model.onnx"


def _write(model: keras.Model, path: Path, images: np.ndarray, about: About) -> None:
    runtime = engine.find(about.runtime)
    path.mkdir()
    exporters.formats()["onnx"].write(model, path / MODEL, images)
    facts = {
        "name": model.name,
        "classes": about.class_names or [str(i) for i in range(model.output_shape[-1])],
        "probabilities": about.probabilities,
        **_size(model, about),
        "model": {"url": MODEL, "integrity": engine.integrity(path / MODEL)},
        "engine": runtime.put(path),
    }
    text = json.dumps(facts, ensure_ascii=False, indent=1)
    (path / "model.json").write_text(text, encoding="utf-8")
    for name in ("page.css", "page.js", "resize.js"):
        shutil.copyfile(PAGE / name, path / name)
    page = Template((PAGE / "index.html").read_text(encoding="utf-8"))
    loaded = f"The runtime onnxruntime-web comes from {engine.CDN}." if not runtime.folder else ""
    filled = page.substitute(
        name=escape(model.name), engine=loaded, origin="" if runtime.folder else engine.CDN
    )
    (path / "index.html").write_text(filled, encoding="utf-8")


def _size(model: keras.Model, about: About) -> dict[str, int | str | None]:
    """The size of the input, and how a picture comes to it; see `tinyconv.data.read_image`."""
    height, width = model.input_shape[1:3]
    crop = about.crop
    return {
        "height": height,
        "width": width,
        "shorter": crop.shorter((height, width)) if crop else None,
        "interpolation": crop.interpolation if crop else "bicubic",
    }


def _load(path: Path) -> Runtime:
    return exporters.formats()["onnx"].load(path / MODEL)


FORMATS = {
    "web": Format(
        "-web",
        _write,
        _load,
        packages=onnx.FORMATS["onnx"].packages,
        about=True,
        use="To open the page: python -m http.server --directory {path}, then "
        "http://localhost:8000 in a browser.",
    )
}
