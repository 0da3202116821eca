"""Shared models: versions that never change, whole or not there, one of two who push at once."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cytomask.cli.app import run
from cytomask.errors import BundleError, DownloadError, OutputError
from cytomask.models.bundle import SPEC_NAME, WEIGHTS_NAME, load_bundle, zip_bundle
from cytomask.workflows import model_store
from cytomask.workflows.model_store import (
    describe_stored,
    find_stored,
    list_stored,
    pull_model,
    push_model,
    split_address,
)  # fmt: skip
from cytomask.workflows.models import SHIPPED, find_model, load_model
from cytomask.workflows.tune import tune_model

from .web_server import WebServer

BUNDLE = SHIPPED / "nuclei"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CYTOMASK_CACHE", str(tmp_path / "cache"))


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return str(tmp_path / "shared")
    request.getfixturevalue("s3")
    import s3fs

    s3fs.S3FileSystem(skip_instance_cache=True).mkdir("team")
    return "s3://team/models"


def test_there_and_back(store: str, tmp_path: Path) -> None:
    assert push_model(BUNDLE, store) == "nuclei@1"
    assert push_model(BUNDLE, store, version="best") == "nuclei@best"
    assert push_model(BUNDLE, store, name="other") == "other@1"
    assert push_model(zip_bundle(BUNDLE, tmp_path / "m.zip"), store) == "nuclei@2"
    assert [f"{m.name}@{m.version}" for m in list_stored(store)] == ["nuclei@best", "nuclei@1", "nuclei@2", "other@1"]
    assert "star" in describe_stored(store)[0]
    newest = find_stored(f"{store}/nuclei")
    assert newest is not None
    assert newest.version == "2"
    folder = pull_model(f"{store}/nuclei@1", tmp_path / "got")
    for name in (SPEC_NAME, WEIGHTS_NAME):
        assert (folder / name).read_bytes() == (BUNDLE / name).read_bytes()
    assert sorted(p.name for p in folder.iterdir()) == sorted(p.name for p in BUNDLE.iterdir())
    with pytest.raises(OutputError, match="would mix"):
        pull_model(f"{store}/nuclei@1", tmp_path / "got")


def test_a_version_is_never_overwritten(store: str) -> None:
    push_model(BUNDLE, store, version="1.0")
    with pytest.raises(OutputError, match="there already"):
        push_model(BUNDLE, store, version="1.0")
    with pytest.raises(OutputError, match="cannot be called so"):
        push_model(BUNDLE, store, version="latest")
    for wrong in ("../x", "a/b", "", ".hidden"):
        with pytest.raises(OutputError, match="cannot be this"):
            push_model(BUNDLE, store, version=wrong)


def test_of_two_at_once_one_wins(store: str) -> None:
    def push(_: int) -> str:
        try:
            return push_model(BUNDLE, store, version="7")
        except OutputError as error:
            return error.what

    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(push, range(4)))
    assert said.count("nuclei@7") == 1
    assert len(list_stored(store)) == 1
    load_model(f"{store}/nuclei@7")


def test_numbers_of_two_at_once_differ(store: str) -> None:
    with ThreadPoolExecutor(3) as pool:
        said = list(pool.map(lambda _: push_model(BUNDLE, store), range(3)))
    assert len(set(said)) == 3
    assert len(list_stored(store)) == 3


def test_a_push_that_fails_leaves_no_version(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = model_store._Store.put

    def put(self: model_store._Store, source: Path, path: str) -> None:
        if path.endswith(WEIGHTS_NAME):
            raise OutputError("the disk is full")
        real(self, source, path)

    monkeypatch.setattr(model_store._Store, "put", put)
    with pytest.raises(OutputError, match="the disk is full"):
        push_model(BUNDLE, store)
    assert list_stored(store) == []
    assert find_stored(f"{store}/nuclei") is None
    monkeypatch.setattr(model_store._Store, "put", real)
    assert push_model(BUNDLE, store) == "nuclei@1"


def test_what_did_not_arrive_whole_is_no_version(store: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = model_store._Store.put

    def put(self: model_store._Store, source: Path, path: str) -> None:
        if path.endswith(WEIGHTS_NAME):
            cut = tmp_path / "cut"
            cut.write_bytes(source.read_bytes()[:-1])
            source = cut
        real(self, source, path)

    monkeypatch.setattr(model_store._Store, "put", put)
    with pytest.raises(OutputError, match="not what it should be"):
        push_model(BUNDLE, store)
    assert list_stored(store) == []


def test_half_of_a_version_is_none(tmp_path: Path) -> None:
    """As a computer leaves it that went down in the middle."""
    store = tmp_path / "shared"
    (store / "nuclei" / "1").mkdir(parents=True)
    shutil.copyfile(BUNDLE / SPEC_NAME, store / "nuclei" / "1" / SPEC_NAME)
    (store / "nuclei" / "1" / "claim.json").write_text(json.dumps({"claim": "x"}))
    assert list_stored(store) == []
    with pytest.raises(BundleError, match="no such model"):
        pull_model(f"{store}/nuclei@1", tmp_path / "got")
    with pytest.raises(OutputError, match="broke off"):
        push_model(BUNDLE, store, version="1")
    assert push_model(BUNDLE, store) == "nuclei@2"


@pytest.mark.parametrize("damage", [WEIGHTS_NAME, "manifest.json"])
def test_a_damaged_model_is_not_pulled(tmp_path: Path, damage: str) -> None:
    store = tmp_path / "shared"
    push_model(BUNDLE, store)
    place = store / "nuclei" / "1" / damage
    place.write_bytes(place.read_bytes()[:-5])
    with pytest.raises(DownloadError, match=r"not what it should be|broken"):
        pull_model(f"{store}/nuclei@1", tmp_path / "got")
    assert not (tmp_path / "got").exists()


def test_a_model_that_does_not_work_is_not_pulled(tmp_path: Path) -> None:
    """Whole, by its manifest, but never a model that loads."""
    store = tmp_path / "shared"
    push_model(BUNDLE, store)
    folder = store / "nuclei" / "1"
    (folder / SPEC_NAME).write_text("family: star\n")
    fields = json.loads((folder / "manifest.json").read_text())
    fields["files"][SPEC_NAME]["sha256"] = hashlib.sha256((folder / SPEC_NAME).read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(fields))
    with pytest.raises(BundleError):
        pull_model(f"{store}/nuclei@1", tmp_path / "got")
    assert not (tmp_path / "got").exists()


def test_a_manifest_cannot_lead_out(tmp_path: Path) -> None:
    store = tmp_path / "shared"
    push_model(BUNDLE, store)
    place = store / "nuclei" / "1" / "manifest.json"
    fields = json.loads(place.read_text())
    fields["files"]["../../evil"] = {"sha256": "0" * 64}
    place.write_text(json.dumps(fields))
    with pytest.raises(DownloadError, match="none of a model's"):
        pull_model(f"{store}/nuclei@1", tmp_path / "got")


def test_a_stored_model_is_a_model(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    push_model(BUNDLE, store)
    found = find_model(f"{store}/nuclei@1")
    assert found.name == "nuclei"
    assert tmp_path / "cache" in found.parents
    assert find_model(f"{store}/nuclei") == found
    assert load_model(f"{store}/nuclei@latest").spec.name == "nuclei"
    with pytest.raises(BundleError, match="no such model"):
        find_model(f"{store}/nuclei@9")
    # A version does not change, so it needs no connection once it is here.
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert find_model(f"{store}/nuclei@1") == found


def test_bundles_by_their_addresses(s3: str, web: WebServer, tmp_path: Path) -> None:
    import s3fs

    system = s3fs.S3FileSystem(skip_instance_cache=True)
    system.mkdir("team")
    for place in ("plain", "runs/first/bundle"):
        for name in (SPEC_NAME, WEIGHTS_NAME):
            system.put_file(str(BUNDLE / name), f"team/{place}/{name}")
    system.pipe_file("team/plain/huge.bin", b"x" * 1000)
    web.files["m.zip"] = zip_bundle(BUNDLE, tmp_path / "m.zip").read_bytes()
    system.pipe_file("team/m.zip", web.files["m.zip"])
    for address in ("s3://team/plain", "s3://team/runs/first/", "s3://team/m.zip", web.url("m.zip")):
        assert load_bundle(find_model(address)).spec.name == "nuclei"
    assert not (find_model("s3://team/plain") / "huge.bin").exists()
    with pytest.raises(DownloadError, match="must be one zip"):
        find_model(web.url("bundle"))
    with pytest.raises(BundleError, match="no such model"):
        find_model("s3://team/none")
    with pytest.raises(DownloadError, match="cannot be kept"):
        push_model(BUNDLE, web.url("models"))


def test_what_is_elsewhere_is_not_tuned(tmp_path: Path) -> None:
    store = tmp_path / "shared"
    push_model(BUNDLE, store)
    with pytest.raises(BundleError, match=r"cannot be changed[\s\S]*models pull"):
        tune_model(f"{store}/nuclei@1", tmp_path)


def test_a_store_in_trouble(s3: str, web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", web.url("").rstrip("/"))
    web.failures = [500] * 1000
    with pytest.raises(DownloadError, match="in trouble"):
        push_model(BUNDLE, "s3://team/models")
    with pytest.raises(DownloadError, match="in trouble"):
        list_stored("s3://team/models")


def test_addresses() -> None:
    assert split_address("models/a@b") == ("models", "a", "b")
    assert split_address("a") == (".", "a", "latest")
    assert split_address("s3:/b/a") == ("s3://b", "a", "latest")


def test_the_commands(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    store = str(tmp_path / "shared")
    said: Callable[[], str] = lambda: capfd.readouterr().out  # noqa: E731
    assert run(["models", "push", "nuclei", store, "--name", "ours"]) == 0
    assert "ours@1" in said()
    assert run(["models", "list", store]) == 0
    assert "ours@1" in said()
    assert run(["models", "pull", f"{store}/ours@1", str(tmp_path / "got")]) == 0
    assert "nuclei: star" in said()
    assert run(["models", "pull", f"{store}/ours@2", str(tmp_path / "none")]) == 2
    assert run(["models", "list", str(tmp_path / "empty")]) == 0
    assert "no models" in said()
    assert run(["models", "list"]) == 0
    assert "phase" in said()
