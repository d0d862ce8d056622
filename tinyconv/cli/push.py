"""Upload the model of a run, its report and its card to the Hugging Face Hub."""

import argparse
import json
import shutil
import tempfile
import zipfile
from pathlib import Path

from tinyconv.errors import InputError

EXAMPLES = """
  tinyconv push models/20261125-120000-tiniest-cifar10 hf://USER/tiniest
  tinyconv push models/20261125-120000-tiniest-photos hf://USER/photos --private
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, help="a run folder")
    parser.add_argument("address", help="hf://USER/NAME")
    parser.add_argument("--private", action="store_true", help="make a new repository private")


def main(args: argparse.Namespace) -> None:
    from tinyconv import hub, hub_card, trained

    hub.repository(args.address)
    hub.check_token()
    subject = hub_card.read(args.run)
    trained.open_model(str(args.run / "model.keras"))
    text = hub_card.existing(args.run)
    if text is None or hub_card.is_own(text):
        text = hub_card.page(subject, args.address)
    hub_card.check_describes(text, args.run)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        try:
            _copy(args.run, folder)
            report = json.dumps(hub_card.shareable(subject.report), indent=2) + "\n"
            (folder / "report.json").write_text(report, encoding="utf-8")
            (folder / "README.md").write_text(text, encoding="utf-8")
        except OSError as error:
            raise InputError(f"Cannot write to {folder} ({error.strerror}); set TMPDIR.") from error
        url = hub.upload(folder, args.address, args.private)
    print(f'{url}\nkeras.saving.load_model("{args.address}") opens the model.')


def _copy(run: Path, folder: Path) -> None:
    """Copy the files that are uploaded unchanged."""
    # The parts of a .keras file are the files that Keras' loader of hf:// expects.
    with zipfile.ZipFile(run / "model.keras") as archive:
        archive.extractall(folder)
    for name in ("model.keras", "history.csv"):
        shutil.copyfile(run / name, folder / name)
