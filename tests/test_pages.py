# SPDX-License-Identifier: Apache-2.0
"""What README and docs promise: the example runs, commands are ones that there are, tables are those of the files."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import monai_kd
from monai_kd.cli import VERBS
from monai_kd.command_line.words import check_options

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]
PLACEHOLDERS = {"NAME", "VERB", "NEAREST"}

pytestmark = pytest.mark.skipif(not (ROOT / "README.md").is_file(), reason="not a checkout")


def blocks(page, *languages):
    """The contents of a page's code blocks in one of the languages."""
    found = re.findall(r"^[ ]*```(\w+)\n(.*?)^[ ]*```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    return [text for language, text in found if language in languages]


def commands(page):
    """The words behind `python -m monai_kd` of each line that calls it."""
    for block in blocks(page, "bash"):
        for line in re.sub(r"\\\n", " ", block).splitlines():
            line = line.split("&& ")[-1].strip()
            if line.startswith("python -m monai_kd "):
                yield shlex.split(line.removeprefix("python -m monai_kd "), comments=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_name_verbs_bundles_and_options_that_there_are(page):
    for verb, *words in commands(page):
        if verb in PLACEHOLDERS:
            continue
        assert verb in VERBS, (page.name, verb)
        check_options(verb, VERBS[verb], words)
        if verb not in ("list", "label_app") and words[0] not in PLACEHOLDERS and words[0].islower():
            assert words[0] in monai_kd.bundle_names() or "/" in words[0] or words[0].startswith("my_"), words


def test_the_pages_have_commands():
    assert sum(1 for page in PAGES for _ in commands(page)) > 30


def test_the_readme_s_example_runs(capsys):
    (example,) = blocks(ROOT / "README.md", "python")
    exec(compile(example, "README.md", "exec"), {"__name__": "example"})
    assert "loss" in capsys.readouterr().out


def test_tables_of_results_are_those_of_the_files():
    subprocess.run([sys.executable, ROOT / "tests" / "results" / "tables.py", "--check"], check=True)


def test_a_table_that_was_typed_is_noticed(tmp_path):
    for name in ("README.md", "docs", "tests/results/tables.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-r", ROOT / name, tmp_path / name], check=True)
    readme = tmp_path / "README.md"
    readme.write_text(readme.read_text("utf-8").replace("| 0.597 |", "| 0.797 |"), "utf-8")
    check = [sys.executable, tmp_path / "tests" / "results" / "tables.py", "--check"]
    assert subprocess.run(check).returncode == 1


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page):
    for link in re.findall(r"\]\(([^)#]+)", re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)):
        if not re.match(r"\w+:", link):
            assert (page.parent / " ".join(link.split())).exists(), link
