"""Find models by name, path or run, and carry them about."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from cytomask.errors import BundleError, DownloadError, OutputError
from cytomask.models.bundle import (
    CARD_NAME,
    SPEC_NAME,
    WEIGHTS_NAME,
    Bundle,
    load_bundle,
    read_spec,
    save_bundle,
    spec_to_yaml,
    unzip_bundle,
    zip_bundle,
)
from cytomask.storage.remote import is_remote, local_file, local_folder
from cytomask.storage.systems import as_url, lists, name_of, stat
from cytomask.workflows.model_store import stored_model
from cytomask.workflows.run_folder import BUNDLE_IN_RUN

SHIPPED = Path(__file__).resolve().parents[1] / "models" / "shipped"


def shipped_models() -> list[str]:
    """Names of the models that come with cytomask."""
    return sorted(p.parent.name for p in SHIPPED.glob(f"*/{SPEC_NAME}"))


def find_model(model: str | Path) -> Path:
    """Resolve a model to the bundle's path.

    Parameters
    ----------
    model
        A shipped name, a bundle (folder or zip), a run's folder, the address of one of these, or a model of a store,
        such as ``s3://bucket/models/nuclei@3``.

    Raises
    ------
    BundleError
        If there is none.
    DownloadError
        If it cannot be fetched.
    """
    if is_remote(model):
        return _fetched(as_url(model))
    path = Path(model)
    if str(model) in shipped_models() and not (path / SPEC_NAME).is_file():
        return SHIPPED / str(model)
    if (path / SPEC_NAME).is_file() or path.is_file():
        return path
    if (path / BUNDLE_IN_RUN / SPEC_NAME).is_file():
        return path / BUNDLE_IN_RUN
    if path.is_dir() and (path / "experiment.yaml").is_file():
        raise BundleError("the run has no model yet", where=path, fix=f"finish it: cytomask train {path} --resume")
    if (path.is_dir() or "@" in path.name) and (stored := stored_model(str(model))) is not None:
        return stored
    raise _no_model(model)


def _no_model(model: str | Path) -> BundleError:
    return BundleError(
        "there is no such model",
        where=model,
        expected="a shipped model (" + ", ".join(shipped_models()) + "), a bundle's folder or zip, a run's folder, "
        "or STORE/NAME@VERSION",
    )


def _fetched(url: str) -> Path:
    """Fetch a model from a bucket or a web server."""
    if name_of(url).lower().endswith(".zip"):
        return local_file(url)
    if not lists(url):
        raise DownloadError("a model on a web server must be one zip", where=url, fix="pack it: cytomask models export")
    if "@" not in name_of(url):
        for folder in (url, f"{url}/{BUNDLE_IN_RUN}"):
            if stat(f"{folder}/{SPEC_NAME}") is not None:
                return local_folder(folder, lambda name: name in (SPEC_NAME, WEIGHTS_NAME, CARD_NAME))
    stored = stored_model(url)
    if stored is None:
        raise _no_model(url)
    return stored


def load_model(model: str | Path) -> Bundle:
    """Load a model by name, path or run."""
    return load_bundle(find_model(model))


def describe_models() -> list[str]:
    """One line per shipped model."""
    lines = []
    for name in shipped_models():
        spec = read_spec(SHIPPED / name)
        lines.append(
            f"{name:<12} {spec.family}, classes {', '.join(spec.config.get('classes', []))}; "
            f"data {spec.training.data} ({spec.training.data_licence})"
        )
    return lines


def describe_model(model: str | Path) -> str:
    """The model's specification as text."""
    path = find_model(model)
    return f"# {path}\n{spec_to_yaml(read_spec(path))}".rstrip()


def export_bundle(model: str | Path, target: str | Path, *, half: bool = False) -> Path:
    """Pack a model into one zip, which must not exist yet; ``half`` keeps its weights in half precision."""
    path, target = find_model(model), Path(target)
    if target.exists():
        raise OutputError("the file exists already", where=target, fix="name another file, or remove it")
    if path.is_file():
        raise BundleError("the model is packed already", where=path)
    bundle = load_bundle(path)  # what is handed on must work
    if not half:
        return zip_bundle(path, target)
    card = path / CARD_NAME
    with TemporaryDirectory() as folder:
        text = card.read_text(encoding="utf-8") if card.is_file() else None
        return zip_bundle(save_bundle(bundle, folder, text, half=True), target)


def import_bundle(source: str | Path, folder: str | Path) -> Path:
    """Unpack a zipped model into a new folder, after making sure that it works."""
    load_bundle(source)
    if Path(folder).exists() and any(Path(folder).iterdir()):
        raise OutputError("the folder is not empty", where=folder, fix="name a new folder")
    return unzip_bundle(source, folder)
