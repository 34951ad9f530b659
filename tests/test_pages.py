# SPDX-License-Identifier: Apache-2.0
"""What README, docs and the bundles' pages promise: the example runs, commands are ones that there are, with settings
that the bundles have, tables are those of the files, links lead somewhere.

Trainings are no part of it: tests/results/papers.py and tests/results/any_teacher.py start the commands of their pages,
tests/bundle those of the demos; tests/bundle/test_export.py runs the Python of docs/export.md.
"""

import ast
import configparser
import inspect
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import monai_kd
from monai_kd.bundle import Bundle
from monai_kd.cli import VERBS, main
from monai_kd.command_line.words import check_options, config_settings, parse
from monai_kd.contract import CONTRACT
from monai_kd.overrides import check_overrides

ROOT = Path(__file__).resolve().parents[1]
BUNDLES = sorted(monai_kd.bundle_names())
BUNDLE_PAGES = [ROOT / "bundle" / name / "docs" / "README.md" for name in BUNDLES]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md")), *BUNDLE_PAGES]
PLACEHOLDERS = {"NAME", "VERB", "NEAREST"}
OTHERS = "cd curl export flake8 git isort mkdir mkdocs monailabel mypy nnUNetv2_predict scontrol trtexec".split()
"""What else the pages call, which no test starts."""
SHELL = re.compile(r"(for|while) .*|do|done|fi|#.*|")
ASSIGNMENT = re.compile(r"\s*([A-Za-z_]\w*)=(\"[^\"]*\"|\$\(.*\)|[^\s\"]+)")
ANY_TERM = '{"_target_": "monai_kd.losses.DistillationTerm", "loss": {"_target_": "monai_kd.losses.HintLoss"}}'
OF_MONAI = {"config_file", "meta_file", "logging_file", "run_id", "init_id", "final_id"}

pytestmark = pytest.mark.skipif(not (ROOT / "README.md").is_file(), reason="not a checkout")


def label(page):
    """What a test is called by."""
    return page.parts[-3] if page in BUNDLE_PAGES else page.name


def blocks(page, *languages):
    """The contents of a page's code blocks in one of the languages."""
    found = re.findall(r"^[ ]*```(\w+)\n(.*?)^[ ]*```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    return [text for language, text in found if language in languages]


def commands(page):
    """The words of every command in a page's blocks for bash and its tables, with the page's variables put in."""
    values = {}
    for block in blocks(page, "bash"):
        for line in re.sub(r"\\\n", " ", block).splitlines():
            if found := ASSIGNMENT.fullmatch(line.partition(" #")[0].rstrip()):
                values[found[1]] = with_values(found[2].strip('"'), values)
            elif not SHELL.fullmatch(line.strip()):
                for command in re.split(r" && | ; ", with_values(line.strip(), values)):
                    yield [word for word in shlex.split(command, comments=True) if not re.match(r"[A-Z_0-9]+=", word)]
    for cell in re.findall(r"^\|.*?`(python -m monai_kd [^`|]+)`", page.read_text("utf-8"), re.MULTILINE):
        yield shlex.split(cell)


def with_values(line, values):
    """A line with the variables that are known."""
    return re.sub(r"\$(\w+)", lambda name: values.get(name[1], name[0]), line)


def check_verb(verb, *words):
    """That a command of monai_kd is one: verb, bundle, options and settings."""
    if verb in PLACEHOLDERS:
        return
    assert verb in VERBS, verb
    check_options(verb, VERBS[verb], words)
    if verb in ("list", "label_app") or words[0] not in BUNDLES:
        known = words[:1] == () or words[0] in PLACEHOLDERS or "/" in words[0] or words[0].startswith("my_")
        assert known or verb in ("list", "label_app"), words
        return
    takes = inspect.signature(VERBS[verb]).parameters
    files = {"train": ["train.json"], "infer": ["inference.json"], "evaluate": ["train.json", "evaluate.json"]}
    files["compare"] = files["evaluate"]
    if verb in files:
        bundle, wanted = Bundle(words[0]), settings_in(words[1:], takes)
        own = wanted.pop("config", None)
        overlays = ["demo.json"] if "--demo" in words else []
        if own and (bundle.root / "configs" / own).is_file():
            wanted = {**config_settings(own, bundle, *files[verb], *overlays), **wanted}
        check_overrides(bundle.config(*files[verb], *overlays), wanted)


def settings_in(words, takes):
    """Settings that a command lays over the bundle's, and the file of `--config`."""
    kept, options, rest = [], {}, iter(words)
    for word in rest:
        name, equals, value = word.removeprefix("--").partition("=")
        if word.startswith("--"):
            switch = name in takes and takes[name].default is False
            value = value if equals else "true" if switch else next(rest, "")
            if name not in takes or name == "config":
                options[name] = value
        elif "=" in word and not word.startswith(("/", "$")):
            kept.append(word)
    own = options.pop("config", None)
    return parse(kept, options) | ({"config": own} if own else {})


def check_workflow(*words):
    """That a command of MONAI names configuration files that there are, and ids that they have."""
    options = {key.removeprefix("--"): value for key, value in zip(words, [*words[1:], ""]) if key.startswith("--")}
    named = re.findall(r"[^\[\]',]+\.json", options["config_file"])
    found = [file for file in named if "/runs/" not in file and not file.startswith("configs/")]
    assert all((ROOT / file).is_file() for file in found), found
    if found and len(found) == len(named):
        from monai.bundle import ConfigParser

        config = ConfigParser.load_config_files([str(ROOT / file) for file in found])
        ids = {key: value for key, value in options.items() if key not in OF_MONAI and not value.startswith("--")}
        check_overrides(config, parse([], ids))


def check(words):
    """That a command can be started."""
    if words[:3] == ["python", "-m", "monai_kd"]:
        check_verb(*words[3:])
    elif "monai.bundle" in words:
        verb = words[words.index("monai.bundle") + 1]
        assert verb in ("run", "verify_net_in_out", "ckpt_export", "trt_export"), verb
        if verb == "run":
            check_workflow(*words[words.index("monai.bundle") + 2 :])
    elif words[0] == "python" and words[1] != "-m":
        assert (ROOT / words[1]).is_file(), words[1]
    elif words[:2] == ["python", "-m"]:
        assert words[2] in ("venv", "pytest", "monai_kd.contract") or (ROOT / words[2].replace(".", "/")).with_suffix(
            ".py"
        ).is_file(), words[2]
    elif words[:2] == ["pip", "install"]:
        check_installation(*words[2:])
    elif words[0].endswith("pytest"):
        assert all((ROOT / word).exists() for word in words[1:] if "/" in word), words
    else:
        assert words[0] in (*OTHERS, "python3", "python3.11", "."), words


def check_installation(*words):
    """That the files and extras of an installation are there."""
    for before, word in zip(["", *words], words):
        assert before != "-c" or (ROOT / word).is_file(), word
        if extras := re.search(r"\[([\w,]+)\]", word):
            told = configparser.ConfigParser()
            told.read(ROOT / "setup.cfg")
            assert set(extras[1].split(",")) <= set(told["options.extras_require"]), word


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_commands_can_be_started(page):
    for words in commands(page):
        check(words)


def test_the_pages_have_commands():
    assert sum(1 for page in PAGES for _ in commands(page)) > 100


@pytest.mark.parametrize(
    "command, wrong",
    [
        ("python -m monai_kd trian brain_extraction", "trian"),
        ("python -m monai_kd train brain_extraction --datset /data max_epochs=2", "datset"),
        ("python -m monai_kd train brain_extraction max_epoch=2", "max_epoch"),
        ("python -m monai_kd infer brain_extraction in out --overlays", "overlays"),
        ("python -m monai_kd train brain_tumour max_epochs=2", "brain_tumour"),
        ("python -m monai.bundle run --config_file bundle/brain_extraction/configs/trian.json", "trian"),
        ("python -m monai.bundle run --config_file bundle/brain_extraction/configs/train.json --epochs 2", "epochs"),
        ('pip install -e ".[documents]"', "documents"),
        ("python tests/results/table.py", "table.py"),
        ("monailabels start_server", "monailabels"),
    ],
)
def test_what_cannot_be_started_is_noticed(command, wrong):
    with pytest.raises((AssertionError, ValueError), match=wrong):
        check(shlex.split(command))


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "console")], ids=label)
def test_what_the_pages_show_of_a_console_is_what_comes(page, capsys):
    for block in blocks(page, "console"):
        command, *shown = block.splitlines()
        main(shlex.split(command.strip().removeprefix("$ python -m monai_kd")))
        assert "".join(capsys.readouterr()).splitlines() == [line.strip() for line in shown]


def test_the_readme_s_example_runs(capsys):
    (example,) = blocks(ROOT / "README.md", "python")
    exec(compile(example, "README.md", "exec"), {"__name__": "example"})
    assert "loss" in capsys.readouterr().out


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python", "json")], ids=label)
def test_what_is_shown_of_python_and_json_can_be_read(page):
    for block in blocks(page, "python"):
        compile(block, page.name, "exec")
    for block in blocks(page, "json"):
        json.loads(block)


def test_the_tutorial_was_executed_and_its_commands_can_be_started():
    file = ROOT / "docs" / "tutorial.ipynb"
    cells = [cell for cell in json.loads(file.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert file.stat().st_size < 300_000 and len(outputs) > 5
    assert {output["output_type"] for output in outputs} <= {"stream", "display_data", "execute_result"}
    code = [text for cell in cells if not (text := "".join(cell["source"])).startswith("%%")]
    lines = []
    for node in ast.walk(ast.parse("\n".join(code))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "monai_kd":
            lines.append(eval(ast.unparse(node.args[0]), {"term": ANY_TERM}))
    assert len(lines) > 4
    for line in lines:
        check_verb(*shlex.split(line))


def test_tables_of_results_are_those_of_the_files():
    subprocess.run([sys.executable, ROOT / "tests" / "results" / "tables.py", "--check"], check=True)


@pytest.mark.parametrize("page", ["README.md", "docs/results.md", "bundle/brain_extraction/docs/README.md"])
def test_a_table_that_was_typed_is_noticed(page, tmp_path):
    for name in ("README.md", "tests/results/tables.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    for name in ("docs", "bundle"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("runs", "data"))
    check = [sys.executable, tmp_path / "tests" / "results" / "tables.py", "--check"]
    assert subprocess.run(check).returncode == 0
    table = re.search("<!-- results.*?-->\n(.*?)\n<!-- end", (tmp_path / page).read_text("utf-8"), re.DOTALL)[1]
    (tmp_path / page).write_text((tmp_path / page).read_text("utf-8").replace(table, table + "\n| typed |"), "utf-8")
    assert subprocess.run(check).returncode == 1


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_links_lead_to_files(page):
    for link in re.findall(r"\]\(([^)#]+)", re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)):
        if not re.match(r"\w+:", link):
            assert (page.parent / " ".join(link.split())).exists(), link


@pytest.mark.parametrize("page", BUNDLE_PAGES, ids=label)
def test_a_bundle_s_page_is_short(page):
    lines = page.read_text("utf-8").count("\n")
    assert lines <= 150


@pytest.mark.parametrize("name", BUNDLES)
def test_every_setting_has_a_meaning(name):
    told = json.loads((ROOT / "docs" / "settings.json").read_text("utf-8"))
    known = {entry.key for entry in CONTRACT} | set(told["shared"]) | set(told[name])
    bundle = Bundle(name)
    ids = {**bundle.config("inference.json"), **bundle.config("train.json")}
    plain = {key for key, value in ids.items() if not key.startswith("_") and key != "imports" and is_plain(value)}
    assert plain - known == set() and set(told[name]) - set(ids) == set()


def test_a_meaning_that_bundles_share_is_of_a_setting():
    told = json.loads((ROOT / "docs" / "settings.json").read_text("utf-8"))
    ids = {key for name in BUNDLES for file in ("train.json", "inference.json") for key in Bundle(name).config(file)}
    assert set(told["shared"]) - ids == set()


def is_plain(value):
    """Whether a value is a number, a word or a list of such."""
    if isinstance(value, list):
        return all(map(is_plain, value))
    return not isinstance(value, dict) and not (isinstance(value, str) and value[:1] in ("$", "@", "%"))
