"""What the site does to our pages, which are written for GitHub.

Pages link to files outside docs/, such as examples and sources. The site has a page for each of them
under source/, so that every link works there too, without a repository on the network.
"""

import json
import os
import posixpath
import re
import subprocess
from pathlib import Path, PurePosixPath

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^( *)(```|~~~).*?^\1\2 *$", re.M | re.S)
LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)([^()\s#]+)(#[^()\s]*)?(?=\))")
SPAN = re.compile(r"`[^`\n]*`")
LANGUAGES = {".go": "go", ".js": "js", ".mjs": "js", ".py": "python", ".rb": "ruby", ".php": "php", ".yaml": "yaml", ".yml": "yaml",
             ".json": "json", ".lua": "lua", ".sh": "bash", ".conf": "nginx", ".sql": "sql", ".css": "css", ".html": "html"}
LARGEST = 200_000  # bytes of a file that is shown

generated = {}  # path on the site -> text of the page
origin = {}  # path on the site -> path in the repository
tracked = []  # files of the repository


def outside_code(text, change):
    """Applies change to the parts of a text that are not fenced code."""
    parts, last = [], 0
    for m in FENCE.finditer(text):
        parts += [change(text[last:m.start()]), m.group()]
        last = m.end()
    return "".join([*parts, change(text[last:])])


def place(path):
    """Returns where the site has a file or folder of the repository, or None if it does not exist."""
    if path == "README.md":
        return "index.md"
    target = ROOT / path
    if path == "docs/decisions":
        return "decisions/index.md"
    if path.startswith("docs/") and not path.endswith(".go"):
        return path.removeprefix("docs/")
    if target.is_dir():
        return f"source/{path}/README.md" if (target / "README.md").exists() else f"source/{path}/index.md"
    if target.is_file():
        return f"source/{path}" if path.endswith(".md") else f"source/{path}.md"
    return None


def add(path):
    """Makes the page of a file or folder, and those of what the page links to."""
    at = place(path)
    if at is None or at in origin or not (at in ("decisions/index.md", "index.md") or at.startswith("source/")):
        return
    origin[at] = path if (ROOT / path).is_file() else f"{path}/"
    target = ROOT / path
    if path == "docs/decisions":
        text = decisions()
    elif target.is_dir() and (target / "README.md").exists():
        origin.pop(at)
        add(f"{path}/README.md")
        return
    elif target.is_dir():
        inside = [name for name in tracked if name.startswith(path + "/")]
        rows = [f"- [{name.removeprefix(path + '/')}]({name.removeprefix(path + '/')})" for name in inside]
        text = f"# {path}\n\n" + "\n".join(rows) + "\n"
    elif path.endswith(".md"):
        text = target.read_text()
    else:
        text = source(path, target.read_bytes())
    generated[at] = text
    follow(text, posixpath.dirname(path) if target.is_file() else path)


def source(path, content):
    """Returns the page of a file that is not Markdown."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        text = ""
    if not text or len(content) > LARGEST or "\0" in text:
        return f"# {path}\n\nThis file has {len(content):,} bytes, and is not shown here.\n"
    marks = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"# {path}\n\n{marks}{LANGUAGES.get(PurePosixPath(path).suffix, 'text')}\n{text.rstrip()}\n{marks}\n"


def decisions():
    """Returns the list of decisions."""
    rows = []
    for page in sorted((ROOT / "docs/decisions").glob("*.md")):
        title = page.read_text().splitlines()[0].lstrip("# ")
        rows.append(f"- [{title}]({page.name})")
    return "# Decisions\n\nWhy things are as they are, a page each.\n\n" + "\n".join(rows) + "\n"


def follow(text, folder):
    """Adds the pages that a page in a folder of the repository links to."""
    def each(part):
        for m in LINK.finditer(SPAN.sub("", part)):
            add(posixpath.normpath(posixpath.join(folder, m.group(1))))
        return part
    outside_code(text, each)


def on_files(files, config):
    generated.clear()
    origin.clear()
    tracked[:] = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    for f in list(files):
        if f.src_path.endswith(".go"):
            files.remove(f)
        else:
            origin[f.src_path] = "docs/" + f.src_path
    add("docs/decisions")
    add("README.md")
    for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "clients/README.md"):
        add(name)
    for f in list(files):
        if f.is_documentation_page():
            follow(Path(f.abs_src_path).read_text(), posixpath.dirname(origin[f.src_path]))
    for at in generated:
        files.append(File(at, str(ROOT / "docs"), config["site_dir"], config["use_directory_urls"]))
    for name, folder in (("site.css", ROOT / "tools/site"), ("diagrams.js", ROOT / "tools/site"),
                         ("mermaid.tiny.js", ROOT / "web/node_modules/@mermaid-js/tiny/dist")):
        f = File(name, str(folder), config["site_dir"], config["use_directory_urls"])
        if not os.path.exists(f.abs_src_path):
            raise SystemExit(f"{f.abs_src_path} is missing: run npm ci --prefix web")
        f.src_path = f.dest_path = f.url = "assets/" + name
        f.abs_dest_path = os.path.join(config["site_dir"], "assets", name)
        files.append(f)
    return files


def on_nav(nav, config, files):
    listed = {page.file.src_path for page in nav.pages}
    missing = [f.src_path for f in files.documentation_pages() if "/" not in f.src_path and f.src_path not in listed]
    if missing:
        raise SystemExit(f"mkdocs.yml: nav does not have {', '.join(missing)}")


def on_page_read_source(page, config):
    return generated.get(page.file.src_path)


def on_page_markdown(markdown, page, config, files):
    here = page.file.src_path
    folder = posixpath.dirname(origin[here].rstrip("/") if not origin[here].endswith("/") else origin[here])

    def link(m):
        at = place(posixpath.normpath(posixpath.join(folder, m.group(1))))
        if at is None:
            return m.group()
        return posixpath.relpath(at, posixpath.dirname(here) or ".") + (m.group(2) or "")

    def change(part):
        spans = []

        def keep(m):
            spans.append(m.group())
            return f"\0{len(spans) - 1}\0"

        part = LINK.sub(link, SPAN.sub(keep, part))
        part = re.sub("\0(\\d+)\0", lambda m: spans[int(m.group(1))], part)
        # A list may follow a paragraph at once, and a cell may have \| in code: GitHub's Markdown is like that.
        part = re.sub(r"^(?!\s*(?:[-*] |\d+\. |\||<|$))(.+)\n(?=(?:[-*] |1\. ))", r"\1\n\n", part, flags=re.M)
        return re.sub(r"`([^`\n]*\\\|[^`\n]*)`", lambda m: "<code>" + m.group(1).replace("\\|", "&#124;").replace("<", "&lt;") + "</code>", part)

    return outside_code(markdown, change)


def on_page_content(html, page, config, files):
    # Diagrams are drawn by a script of 2 MB, which other pages do without.
    if 'class="diagram"' not in html:
        return html
    base = posixpath.relpath("assets", page.url or ".")
    return f'{html}\n<script src="{base}/mermaid.tiny.js"></script>\n<script src="{base}/diagrams.js"></script>\n'


def on_post_build(config):
    """Takes sources out of the search: they would bury the pages that explain them."""
    index = Path(config["site_dir"]) / "search/search_index.json"
    found = json.loads(index.read_text())
    sources = {at.removesuffix("index.md").removesuffix(".md") + "/" for at, path in origin.items() if at.startswith("source/") and not path.endswith(".md")}
    found["docs"] = [d for d in found["docs"] if d["location"].split("#")[0] not in {s.replace("//", "/") for s in sources}]
    index.write_text(json.dumps(found, separators=(",", ":")))
