"""The pages say what the code does: commands, flags, settings, columns and imports that they name are there."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml
from pydantic import BaseModel, ValidationError

from cytomask.data.dataset_config import DatasetConfig
from cytomask.data.steps import parse_steps
from cytomask.image import Image
from cytomask.instances import Instances
from cytomask.models.dense.config import DenseConfig
from cytomask.models.region.config import RegionConfig
from cytomask.models.star.config import StarConfig
from cytomask.workflows.experiment import Experiment, read_experiment, recipe_names

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
TEXTS = [ROOT / "README.md", *PAGES]
FENCED = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def load_hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_hooks", DOCS / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    written, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = written
    return module


HOOKS = load_hooks()
COMMANDS = {c.name: {n for p in c.parameters for n in p.names} | {"--help"} for c in HOOKS.list_commands()}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def wrong_words(line: str) -> list[str]:
    """What a command line names that there is not; words in capitals and ellipses stand for anything."""
    words = shlex.split(line, comments=True)
    if "cytomask" not in words or words[: words.index("cytomask")] not in ([], ["uv", "run"]):
        return []
    words = words[words.index("cytomask") + 1 :]
    wrong, command = [], "cytomask"
    while words and words[0].startswith("-"):
        wrong += [words[0]] if words[0] not in COMMANDS[command] else []
        words = words[1:]
    if words and not (words[0].isupper() or words[0] == "…"):
        command = next((name for n in (3, 2, 1) if (name := " ".join(words[:n])) in COMMANDS), words[0])
        if command not in COMMANDS:
            group = [name for name in COMMANDS if name.startswith(f"{command} ")]
            return wrong if group and len(words) == 1 else [*wrong, " ".join(words[:2])]
    flags = [word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)]
    return wrong + [f"{command} {flag}" for flag in flags if flag not in COMMANDS[command]]


def shell_lines(text: str) -> Iterator[str]:
    for language, block in FENCED.findall(text):
        if language in ("sh", "bash", "console", ""):
            for line in block.replace("\\\n", " ").splitlines():
                yield from (part.strip().removeprefix("$ ") for part in line.split("&&") if "cytomask" in part)


def quoted(text: str) -> Iterator[str]:
    yield from re.findall(r"`([^`\n]+)`", FENCED.sub("", text))


def test_a_wrong_command_is_noticed() -> None:
    assert wrong_words("uv run cytomask predict nuclei a.tif --out b") == []
    assert wrong_words("cytomask --quiet predict …") == []
    assert wrong_words("cytomask COMMAND --help") == []
    assert wrong_words("cytomask predict nuclei a.tif --outt b") == ["predict --outt"]
    assert wrong_words("cytomask --silent predict") == ["--silent"]
    assert wrong_words("cytomask models exprt a b") == ["models exprt"]
    assert wrong_words("cytomask segment a.tif") == ["segment a.tif"]


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_commands_and_flags_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    wrong = [word for line in shell_lines(text) for word in wrong_words(line)]
    wrong += [word for code in quoted(text) if re.match(r"(uv run )?cytomask ", code) for word in wrong_words(code)]
    known = set().union(*COMMANDS.values())
    flags = [found for code in quoted(text) for found in re.findall(r"^(--[a-z][a-z-]*)", code)]
    assert [*wrong, *(flag for flag in flags if flag not in known)] == []


def names_in(module: str) -> set[str]:
    """Names that a module defines, read from its text: importing some modules takes long."""
    spec = importlib.util.find_spec(module)
    assert spec is not None, module
    assert spec.origin is not None, module
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    targets = [node.targets[0] for node in tree.body if isinstance(node, ast.Assign)]
    return names | {target.id for target in targets if isinstance(target, ast.Name)}


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_python_examples_import_what_there_is(path: Path) -> None:
    for language, block in FENCED.findall(path.read_text(encoding="utf-8")):
        if language not in ("python", "py"):
            continue
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom):
                assert {alias.name for alias in node.names} <= names_in(node.module or ""), node.module


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_yaml_examples_are_valid(path: Path, tmp_path: Path) -> None:
    for language, block in FENCED.findall(path.read_text(encoding="utf-8")):
        if language != "yaml":
            continue
        fields = yaml.safe_load(block)
        if "extends" in fields:
            (tmp_path / "example.yaml").write_text(block, encoding="utf-8")
            read_experiment(tmp_path / "example.yaml")
            continue
        model = next((m for m in (Experiment, DatasetConfig) if set(fields) <= set(m.model_fields)), None)
        assert model is not None, f"{list(fields)} are settings of no file"
        config = model.model_validate(fields)
        if isinstance(config, DatasetConfig):
            assert isinstance(config.steps, list)
            parse_steps(config.steps)
        elif "model" in fields:
            check_model(fields["model"])


def check_model(fields: dict[str, Any]) -> None:
    """Fail where a model section has a setting that its family does not know, or a value that it does not take."""
    settings = dict(fields)
    families = {"star": StarConfig, "region": RegionConfig, "dense": DenseConfig}
    families[settings.pop("family", "star")].model_validate(settings)


def test_recipes_that_pages_name_are_there() -> None:
    lines = [line for path in TEXTS for line in shell_lines(path.read_text(encoding="utf-8"))]
    named = {found[1] for line in lines if (found := re.search(r"cytomask train ([\w-]+)(?: |$)", line))}
    page = (DOCS / "how-to/train-region.md").read_text(encoding="utf-8")
    named |= set(re.findall(r"^\| `([\w-]+)` \| \w", page.split("| recipe |")[1].split("\n\n")[0], re.MULTILINE))
    assert {"granules", "cascade", "pointrend"} <= named
    assert named <= set(recipe_names())


def test_initial_weights_that_pages_name_are_known() -> None:
    from cytomask.workflows.trainings.initial_weights import KNOWN

    named = {code for path in TEXTS for code in quoted(path.read_text(encoding="utf-8"))}
    named = {code for code in named if re.match(r"(imagenet|coco)/\w", code)}
    assert "coco/mask_rcnn_R_50_FPN_3x" in named
    assert named <= KNOWN.keys()


def test_a_wrong_model_section_is_noticed() -> None:
    check_model({"family": "region", "backbone": {"depth": 18, "width": 64}})
    for wrong in (
        {"backbone": {"depth": 19}},
        {"rays": 32},
        {"anchors": {"sizes": [[8]]}},
        {"cascade": [{"iou": 0.5}]},
    ):
        with pytest.raises(ValidationError):
            check_model({"family": "region", **wrong})
    with pytest.raises(KeyError):
        check_model({"family": "regions"})


def test_the_page_of_the_region_family_shows_its_members() -> None:
    """Every network that the page is about stands there as YAML that builds what it is called."""
    page = (DOCS / "explanation/region-family.md").read_text(encoding="utf-8")
    models = [yaml.safe_load(block)["model"] for language, block in FENCED.findall(page) if language == "yaml"]
    assert {model.pop("family") for model in models} == {"region"}
    found = [RegionConfig.model_validate(model) for model in models]
    kinds = {(config.backbone.depth, len(config.stages), config.mask.kind) for config in found}
    assert {(50, 1, "convolution"), (50, 3, "convolution"), (18, 1, "pointrend")} <= kinds


def test_every_page_is_in_the_navigation_and_there() -> None:
    def leaves(entry: Any) -> Iterator[str]:
        if isinstance(entry, str):
            yield entry
        else:
            for part in entry if isinstance(entry, list) else entry.values():
                yield from leaves(part)

    named = list(leaves(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]))
    # A page is made of each notebook when the docs are built.
    notebooks = [path.relative_to(DOCS).with_suffix(".md").as_posix() for path in DOCS.glob("notebooks/*.ipynb")]
    assert sorted(named) == sorted([*(path.relative_to(DOCS).as_posix() for path in PAGES), *notebooks])


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_markers_resolve(path: Path) -> None:
    assert "<!--" not in HOOKS.fill_in(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "marker",
    ["settings: cytomask.training.config.Nothing", "settings: nothing.at.All", "command: nothing", "recipe: nothing",
     "settings: cytomask.workflows.experiment.DataSection.nothing"],
)  # fmt: skip
def test_a_marker_for_nothing_is_an_error(marker: str) -> None:
    with pytest.raises(LookupError, match=r"[nN]othing"):
        HOOKS.fill_in(f"<!-- {marker} -->")


def test_every_command_is_described() -> None:
    page = (DOCS / "reference/command-line.md").read_text(encoding="utf-8")
    assert set(re.findall(r"<!-- command: (.+) -->", page)) == set(COMMANDS)
    assert set(re.findall(r"^## ([a-z0-9 -]+)$", page, re.MULTILINE)) == set(COMMANDS) - {"cytomask"}


def test_every_setting_of_an_experiment_is_described() -> None:
    page = HOOKS.fill_in((DOCS / "reference/experiment-file.md").read_text(encoding="utf-8"))
    head, *parts = re.split(r"^## ", page, flags=re.MULTILINE)
    sections = {part.splitlines()[0]: part for part in parts}

    def keys(values: BaseModel, prefix: str = "") -> Iterator[str]:
        for key in type(values).model_fields:
            value = getattr(values, key)
            yield from keys(value, f"{prefix}{key}.") if isinstance(value, BaseModel) else [f"{prefix}{key}"]

    for key in type(Experiment()).model_fields:
        assert f"`{key}`" in head
        section = getattr(Experiment(), key)
        if isinstance(section, BaseModel):
            wanted = {name for name in keys(section) if not name.startswith("normalisation.")}
            assert {name for name in wanted if f"`{name}`" not in sections[key]} == set()


def test_settings_are_told_with_value_default_and_meaning() -> None:
    page = HOOKS.fill_in("<!-- settings: cytomask.data.augment.AugmentConfig -->")
    assert (
        "| `scale.min_zoom` | number >\N{NO-BREAK SPACE}0 | `0.25` | smallest factor that a diameter may lead to |"
        in page
    )
    assert "| `rotation.probability` | number 0 to 1 | `0.3` | how often the change is made |" in page
    assert "| `scale.diameter` | list of two numbers or `null` | `null` |" in page
    page = HOOKS.fill_in("<!-- settings: cytomask.workflows.experiment.DataSection.normalisation -->")
    assert page.count("**`method: ") == 6
    assert "| `low` | number | **needed** | pixel value that becomes 0 |" in page


def test_options_are_told_with_names_value_and_default() -> None:
    page = HOOKS.fill_in("<!-- command: predict -->")
    assert "cytomask predict MODEL IMAGES... --out OUT [OPTIONS]" in page
    assert "| `--out`, `-o` | path | **needed** |" in page
    assert "| `--tile` | whole number ≥\N{NO-BREAK SPACE}64 |" in page


def test_the_object_table_has_the_columns_that_the_page_names() -> None:
    from cytomask.measuring.table import measure

    page = (DOCS / "reference/outputs.md").read_text(encoding="utf-8")
    section = page.split("### The object table")[1].split("\n#")[0]
    cells = re.findall(r"^\| (`.+?) \|", section, re.MULTILINE)
    named = [name for cell in cells for name in re.findall(r"`(.+?)`", cell)]
    pixels = np.zeros((8, 8), np.uint8)
    image = Image.from_array(pixels, channels=["NAME"], pixel_size=(0.5, 0.5), source=Path("a.tif"))
    columns = list(measure(Instances.from_labels(pixels.astype(np.int32)), image).columns)
    assert named == columns


def test_every_output_of_predict_is_described() -> None:
    from cytomask.workflows.predicting.outputs import OUTPUTS, SHARED_OUTPUTS
    from cytomask.workflows.predicting.result_names import RECORD_NAME

    page = (DOCS / "reference/outputs.md").read_text(encoding="utf-8")
    for kind, files in {**{kind: (file,) for kind, file in OUTPUTS.items()}, **SHARED_OUTPUTS}.items():
        for file in files:
            assert f"| `{file}` | `{kind}` |" in page
    assert f"| `{RECORD_NAME}` |" in page


def test_every_figure_of_an_evaluation_is_described() -> None:
    from cytomask.evaluation.image_scores import Pair
    from cytomask.evaluation.metrics import evaluate_pairs

    page = HOOKS.fill_in((DOCS / "reference/metrics.md").read_text(encoding="utf-8"))
    labels = np.zeros((6, 6), np.int32)
    labels[1:4, 1:4] = 1
    found = Instances.from_labels(labels)
    metrics = evaluate_pairs([Pair(name, labels, found) for name in "ab"]).metrics
    names = {*metrics["matching"]["pooled"]["0.50"], *metrics["pixels"], *metrics["coco"]["segm"]}
    names |= metrics.keys() - {"matching", "coco", "n_images", "n_true", "n_pred", "images_without_objects"}
    names -= {"thresholds", "class_names"}
    assert {name for name in names if f"`{name}`" not in page} == set()
