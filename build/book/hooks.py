"""Makes the book's reference of the files that are there, and leads its links to it.

A page of docs/ links to files of the repository as it does on a forge: `../clients/PROTOCOL.md`. Those files become pages here, and the links lead
to them. The commands are what the program itself says: $HALTERE, else target/release/haltere.
"""

import os
import pathlib
import posixpath
import re
import subprocess
import tempfile

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
# File of the repository → page of the book.
PAGES = {
    "README.md": "index.md",
    "clients/README.md": "reference/clients.md",
    "clients/PROTOCOL.md": "reference/wire.md",
    "clients/matlab/README.md": "reference/matlab.md",
    "clients/bonsai/README.md": "reference/bonsai.md",
    "CHANGELOG.md": "reference/changelog.md",
}
CODE = {".toml": "toml", ".yml": "yaml", ".json": "json", ".py": "python", ".m": "matlab", ".sh": "sh"}
COMMANDS, RESULTS = "reference/commands.md", "reference/results.md"
# Tables and code as wide as the window, and nothing cut off.
STYLE = """.wy-nav-content { max-width: 1300px }
pre code { white-space: pre-wrap !important }
.wy-table-responsive table td, .wy-table-responsive table th { white-space: normal !important }
"""
LINK = re.compile(r"\[([^\[\]]*)\]\(([^)\s]+)\)")


def pages():
    """Every file of the repository that is a page, with the page's address."""
    for folder in ("config", "benches/results"):
        for path in sorted((ROOT / folder).iterdir()):
            if path.suffix in CODE or path.suffix == ".md":
                name = path.relative_to(ROOT).as_posix()
                PAGES.setdefault(name, f"reference/{path.parent.name}/{path.stem}.md")
    return PAGES


def text_of(name):
    text = (ROOT / name).read_text()
    language = CODE.get(pathlib.Path(name).suffix)
    return f"# {name}\n\n```{language}\n{text}```\n" if language else text


def commands():
    """What each subcommand says of itself."""
    program = os.environ.get("HALTERE", str(ROOT / "target/release/haltere"))
    if not pathlib.Path(program).exists():
        raise PluginError(f"{program} is missing: `make build`, or set HALTERE")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([program, "man", folder], check=True, capture_output=True)
        names = sorted(path.stem for path in pathlib.Path(folder).glob("haltere-*.1"))
    text = "# Commands\n"
    for name in names:
        words = name.split("-")[1:]
        help_of = subprocess.run([program, *words, "--help"], check=True, capture_output=True, text=True).stdout
        text += f"\n## haltere {' '.join(words)}\n\n```text\n{help_of.strip()}\n```\n"
    return text


def results():
    names = [name for name in pages() if name.startswith("benches/results/")]
    title = lambda name: (ROOT / name).read_text().splitlines()[0].lstrip("# ")
    return "# Measured\n\n" + "".join(f"- [{title(name)}](results/{pathlib.Path(name).stem}.md)\n" for name in names)


def on_files(files, config):
    for name, address in pages().items():
        files.append(File.generated(config, address, content=text_of(name)))
    files.append(File.generated(config, COMMANDS, content=commands()))
    files.append(File.generated(config, "book.css", content=STYLE))
    files.append(File.generated(config, RESULTS, content=results()))
    return files


def on_page_markdown(markdown, page, config, files):
    """Links to files of the repository lead to their pages; a file that is none is named instead."""
    address = page.file.src_uri
    named = {v: k for k, v in pages().items()}
    if address in (COMMANDS, RESULTS):
        return markdown
    place = posixpath.dirname(named.get(address, f"docs/{address}"))

    def lead(match):
        words, whole = match.groups()
        target, mark, anchor = whole.partition("#")
        if not target or "://" in target:
            return match.group(0)
        name = posixpath.normpath(posixpath.join(place, target))
        if not (ROOT / name).exists():
            raise PluginError(f"{address}: {target} leads nowhere")
        leads_to = pages() | {"benches/results": RESULTS}
        if name.startswith("docs/"):
            leads_to = leads_to | {name: name.removeprefix("docs/")}
        if name not in leads_to:
            return words
        return f"[{words}]({posixpath.relpath(leads_to[name], posixpath.dirname(address) or '.')}{mark}{anchor})"

    return LINK.sub(lead, markdown)
