"""MkDocs hook: files outside of ``docs/`` that a page links to become pages of the site.

The same pages are read in the repository and on the site, and the site must work offline. So the README is the home
page, linked Markdown files are pages, and linked sources are shown as code; links between all of them are rewritten.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
HOME = "README.md"
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)\s#]+)(#[^)\s]*)?(?=\))")
LANGUAGES = {".py": "python", ".sh": "bash", ".h": "cpp", ".cu": "cpp", ".cpp": "cpp", ".toml": "toml"}


def site_path(path: str) -> str:
    """Where a file of the repository stands on the site, as the source of a page."""
    if path == HOME:
        return "index.md"
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return f"repository/{path}" if path.endswith(".md") else f"repository/{path}.md"


def linked(path: str, text: str) -> list[str]:
    """Files of the repository that a Markdown text links to, by their paths from the root."""
    folder = PurePosixPath(path).parent
    return [os.path.normpath(folder / target) for target, _ in LINK.findall(text)]


def page_text(path: str) -> str:
    """Markdown that shows a file."""
    text = (ROOT / path).read_text(encoding="utf-8")
    if path.endswith(".md"):
        return text
    language = LANGUAGES.get(Path(path).suffix, "text")
    return f"---\nsearch:\n  exclude: true\n---\n\n# {path}\n\n````{language}\n{text.rstrip()}\n````\n"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the home page and, from link to link, every linked file outside of ``docs/``."""
    waiting = [HOME, *(f"docs/{file.src_uri}" for file in files if file.src_uri.endswith(".md"))]
    seen = set(waiting)
    for path in waiting:
        if not path.startswith("docs/"):
            files.append(File.generated(config, site_path(path), content=page_text(path)))
        if path.endswith(".md"):
            for target in linked(path, (ROOT / path).read_text(encoding="utf-8")):
                if not (ROOT / target).is_file():
                    raise PluginError(f"{path} links to {target}, which is no file of the repository.")
                if target not in seen and not target.startswith("docs/"):
                    seen.add(target)
                    waiting.append(target)
    config.extra["repository_paths"] = {site_path(path): path for path in seen}
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links between files of the repository into links between pages."""
    path = config.extra["repository_paths"].get(page.file.src_uri)
    if path is None or not path.endswith(".md"):  # a page that another hook has made, or a source
        return markdown
    here = PurePosixPath(path).parent
    start = PurePosixPath(page.file.src_uri).parent

    def moved(match: re.Match[str]) -> str:
        target, anchor = match[1], match[2] or ""
        return os.path.relpath(site_path(os.path.normpath(here / target)), start) + anchor

    return LINK.sub(moved, markdown)
