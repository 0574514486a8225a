"""What `make docs` mends in the site: links of the notebook, and two files beside the README."""

import re
from types import SimpleNamespace

BESIDE = ("CITATION.cff", "LICENSE")


def on_files(files, config):
    """Take files that the README links to into the site: of those beside it the plugin same-dir keeps pages alone."""
    from mkdocs.structure.files import File

    for name in BESIDE:
        files.append(File(name, config["docs_dir"], config["site_dir"], config["use_directory_urls"]))
    return files


def on_page_content(html: str, page: SimpleNamespace, **_) -> str:
    """Lead links of a notebook to pages of the site, as mkdocs does with those of Markdown."""
    if not page.file.src_uri.endswith(".ipynb"):
        return html
    return re.sub(r'(href="(?![a-z]+:)[^"#]+)\.md(?=["#])', r"\1.html", html)
