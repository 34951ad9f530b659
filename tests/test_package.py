# SPDX-License-Identifier: Apache-2.0
"""What the package promises as a whole."""

import ast
import re
import subprocess
import sys
from configparser import ConfigParser
from importlib import import_module
from pathlib import Path

import pytest
import yaml

import monai_kd
from monai_kd import locations

ROOT = Path(monai_kd.__file__).resolve().parents[1]
PACKAGE = ROOT / "monai_kd"
# Who may import whom; within itself every subpackage may import.
ALLOWED = {
    "networks": set(),
    "losses": set(),
    "metrics": set(),
    "transforms": set(),
    "data": {"transforms"},
    "handlers": {"losses.distillation", "networks.feature_tap", "networks.preprocessed"},
    "engines": {
        "handlers",
        "metrics",
        "networks.ensemble_network",
        "networks.feature_tap",
        "networks.onnx_network",
        "networks.torchscript_network",
    },
    "comparison": {"engines", "metrics"},
    "nnunet": {"data", "engines", "networks.ensemble_network", "transforms.check_image"},
}
# What every subpackage may use, and needs nothing of this package itself.
COMMON = {"components", "csv_tables", "files", "finite", "folder_lock", "inspection", "locations", "names", "overrides"}
COMMON |= {"contract", "id_roles", "idle_settings", "process_group", "stage_names", "term_switches"}


def _imports(file: Path) -> set[str]:
    """Modules of this package that a file imports, anywhere in it, without the package's own name."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            home = ("monai_kd." + file.relative_to(PACKAGE).parent.as_posix().replace("/", ".")).rstrip(".")
            base = home.rsplit(".", node.level - 1)[0] + "." if node.level else ""
            module = f"{base}{node.module or ''}".rstrip(".")
            found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return {name.removeprefix("monai_kd.") for name in found if name.startswith("monai_kd.")}


@pytest.mark.parametrize("subpackage", sorted(ALLOWED))
def test_who_imports_whom(subpackage):
    for file in (PACKAGE / subpackage).rglob("*.py"):
        others = {name for name in _imports(file) if name.split(".")[0] not in {subpackage, *COMMON}}
        for name in others:
            assert any(name == allowed or name.startswith(f"{allowed}.") for allowed in ALLOWED[subpackage]), (
                file,
                name,
            )


@pytest.mark.parametrize("module", sorted(COMMON))
def test_what_all_may_use_needs_nothing_else_of_this_package(module):
    assert {name.split(".")[0] for name in _imports(PACKAGE / f"{module}.py")} <= COMMON


def test_the_command_line_talks_to_bundles_through_monai_only():
    own = {"bundle", "cli", "command_line", "contract", "inspection", "overrides", "verification"}
    for name in own:
        for file in (PACKAGE / name).rglob("*.py") if (PACKAGE / name).is_dir() else [PACKAGE / f"{name}.py"]:
            assert {module.split(".")[0] for module in _imports(file)} <= {*own, *COMMON}, file
            # What is common to all bundles is in `engines`; networks, losses and data sets are what a configuration
            # names.
            tree = ast.walk(ast.parse(file.read_text()))
            named = {ast.unparse(node).split(".")[1] for node in tree if _is_ours(node)}
            assert named & ALLOWED.keys() <= {"engines"}, file


def _is_ours(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and ast.unparse(node.value) == "monai_kd"


@pytest.mark.parametrize(
    "code",
    [
        "import monai_kd; monai_kd.bundle_names()",
        "from monai_kd.cli import main; main(['list'])",
        "from monai_kd.cli import VERBS, main; [main([verb, '--help']) for verb in VERBS]",
    ],
)
def test_importing_and_looking_around_need_neither_torch_nor_monai(code):
    check = "import sys; sys.exit(any(name in sys.modules for name in ('torch', 'monai', 'ignite', 'timm')))"
    subprocess.run([sys.executable, "-c", f"{code}; {check}"], check=True, stdout=subprocess.DEVNULL, timeout=60)


def test_no_configuration_names_timm_or_torchvision():
    for file in (ROOT / "bundle").glob("*/configs/*.json"):
        if file.name != "metadata.json":
            assert not {"timm", "torchvision"} & set(re.findall(r"\w+", file.read_text())), file


def test_json_files_are_read_by_one_function():
    """Which takes them for UTF-8 on every machine, and says which one is damaged."""
    for file in PACKAGE.rglob("*.py"):
        assert file.name == "files.py" or not re.search(r"json\.loads?\(.*(read_|open)", file.read_text()), file


def test_every_subpackage_is_installed():
    if not (ROOT / "setup.cfg").is_file():
        pytest.skip("not a checkout")
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    listed = set(setup["options"]["packages"].split())
    there = {".".join(path.parent.relative_to(PACKAGE.parent).parts) for path in PACKAGE.rglob("__init__.py")}
    assert listed == there | {"monai_kd.bundles"}


@pytest.mark.parametrize("folder", ["monai_kd", "tests"])
def test_every_file_states_its_licence(folder):
    files = [file for file in (ROOT / folder).rglob("*.py") if "runs" not in file.parts]
    without = [file for file in files if not file.read_text().startswith("# SPDX-License-Identifier: Apache-2.0\n")]
    assert not without, "put '# SPDX-License-Identifier: Apache-2.0' on the first line"


def test_every_file_that_is_no_module_is_installed():
    if not (ROOT / "setup.cfg").is_file():
        pytest.skip("not a checkout")
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    for file in PACKAGE.rglob("*"):
        if file.is_file() and file.suffix not in (".py", ".pyc"):
            home = next(folder for folder in file.parents if (folder / "__init__.py").is_file())
            patterns = setup["options.package_data"][".".join(home.relative_to(PACKAGE.parent).parts)].split()
            assert any(file.relative_to(home).match(pattern) for pattern in patterns), file


def test_whoever_cites_names_this_version():
    if not (ROOT / "CITATION.cff").is_file():
        pytest.skip("not a checkout")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == monai_kd.__version__ and citation["license"] == "Apache-2.0"
    assert citation.keys() >= {"cff-version", "message", "title", "authors"}


def test_type_checkers_of_others_see_the_types():
    assert (PACKAGE / "py.typed").is_file()
    if not (ROOT / "setup.cfg").is_file():
        pytest.skip("not a checkout")
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert "py.typed" in setup["options.package_data"]["monai_kd"].split()


def test_no_class_has_the_name_of_one_of_monais():
    """MONAI finds a short `_target_` in every module whose name begins with its own, as this package's does."""
    from monai.bundle.config_item import ComponentLocator

    locator = ComponentLocator()
    for subpackage in ALLOWED:
        import_module(f"monai_kd.{subpackage}")  # or MONAI would not see it
    texts = [path.read_text() for path in PACKAGE.rglob("*.py")]
    own = {name for text in texts for name in re.findall(r"^class (\w+)", text, re.MULTILINE)}
    found = {name: locator.get_component_module_name(name) for name in own if not name.startswith("_")}
    assert not {name: modules for name, modules in found.items() if isinstance(modules, list)}


def test_paths_follow_the_package_and_not_the_current_folder(tmp_path, monkeypatch):
    before = monai_kd.bundle_root("brain_tumor_segmentation")
    monkeypatch.chdir(tmp_path)
    assert monai_kd.bundle_root("brain_tumor_segmentation") == before
    assert monai_kd.run_dir(tmp_path, "x") == str(tmp_path.resolve() / "runs" / "x")
    with pytest.raises(ValueError, match="there is no bundle 'brain'.*brain_tumor_segmentation"):
        monai_kd.bundle_root("brain")


def test_nothing_is_written_into_an_installed_package(tmp_path, monkeypatch):
    package = tmp_path / "site-packages" / "monai_kd"
    bundle = package / "bundles" / "some_segmentation"
    bundle.mkdir(parents=True)
    monkeypatch.setattr(locations, "_PACKAGE", package)
    monkeypatch.setenv("MONAI_KD_HOME", str(tmp_path / "home"))
    assert monai_kd.run_dir(bundle) == str(tmp_path / "home" / "some_segmentation" / "runs" / "default")
    assert monai_kd.data_dir(bundle) == str(tmp_path / "home" / "some_segmentation" / "data")
