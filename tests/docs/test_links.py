"""What the pages point at exists: files, headings, and the tests that prove the invariants."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "tests").rglob("*.md"))]
ARCHITECTURE = ROOT / "docs" / "architecture.md"


def without_blocks(page: Path) -> str:
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", without_blocks(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", without_blocks(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name} points at {target}"
        assert not anchor or anchor in anchors(file), f"{page.name} points at {target}"


def proofs() -> list[str]:
    """`path::name` as the tables of invariants write it."""
    return re.findall(r"`((?:core|tests|node|bindings)/[^`]+?::[^`]+)`", ARCHITECTURE.read_text(encoding="utf-8"))


def test_every_invariant_names_a_test_that_exists() -> None:
    found = proofs()
    assert found
    missing = []
    for proof in found:
        path, _, name = proof.partition("::")
        file = ROOT / path
        text = file.read_text(encoding="utf-8") if file.is_file() else ""
        if not re.search(rf'(?:fn|def) {re.escape(name)}\b|["\']{re.escape(name)}["\']', text):
            missing.append(proof)
    assert not missing, "these tests are not there: " + ", ".join(missing)
