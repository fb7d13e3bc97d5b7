"""Runs the code blocks of README.md and docs/, so that what a reader copies works.

A page has its own database and its own Redis namespace, named by ZMSG_POSTGRES_DSN and ZMSG_NAMESPACE.

| fence | what is done |
|---|---|
| `python`, `js` | run; a comment `-> text` gives the next line that is printed |
| `sql` | applied to the page's database before its programs run |
| `yaml` | loaded as a configuration |
| `rust` | compiled and run by `cargo test --doc`; here only that the page is included there |
| `sh` | every line must be `make` and a target that exists |
| `text` | nothing: diagrams and layouts |

In README.md every block is a program of its own. In a guide the blocks of one language are one program, top to bottom,
with `await` at the top level. `<!-- not run: reason -->` on the line before a fence leaves a block out.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

import zmsg
import zmsg.sync

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
KNOWN = ("python", "js", "sql", "yaml", "rust", "sh", "text")
EXPECTATION = re.compile(r"(?:#|//) -> (.*)$", re.MULTILINE)
SECONDS = 60

RUN_PYTHON = """
import ast, asyncio, inspect, sys
page = sys.argv[1]
code = compile(sys.stdin.read(), page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
scope = {"__name__": "__main__"}
if code.co_flags & inspect.CO_COROUTINE:
    asyncio.run(eval(code, scope))
else:
    exec(code, scope)
"""


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    language: str
    text: str
    marker: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    found: list[Block] = []
    lines = page.read_text(encoding="utf-8").splitlines()
    at = 0
    while at < len(lines):
        fence = re.fullmatch(r"```(\S*)", lines[at])
        if fence is None:
            assert not lines[at].lstrip().startswith("```"), (
                f"{page}:{at + 1}: a fence must begin its line and name a language"
            )
            at += 1
            continue
        end = lines.index("```", at + 1)
        marker = re.fullmatch(r"<!-- not run: (.+) -->", lines[at - 1]) if at else None
        text = "\n".join(lines[at + 1 : end])
        found.append(Block(page, at + 2, fence[1], text, marker[1] if marker else ""))
        at = end + 1
    return found


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def sessions(language: str) -> list[list[Block]]:
    """The programs: each a list of blocks that run as one."""
    runnable = [block for block in BLOCKS if block.language == language and not block.marker]
    alone = [[block] for block in runnable if block.page.parent == ROOT]
    pages = {block.page: None for block in runnable if block.page.parent != ROOT}
    return alone + [[block for block in runnable if block.page == page] for page in pages]


def program(session: list[Block]) -> str:
    """The blocks at the lines they have on their page, so that a traceback points there."""
    lines: list[str] = []
    for block in session:
        lines += [""] * (block.line - 1 - len(lines))
        lines += block.text.splitlines()
    return "\n".join(lines) + "\n"


def at_place(value: object) -> str | None:
    if isinstance(value, Block):
        return value.place
    return value[0].place if isinstance(value, list) else None


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A database and a namespace that nothing else uses."""
    dsn = os.environ.get("ZMSG_POSTGRES_DSN")
    assert dsn, "ZMSG_POSTGRES_DSN is not set; run this with `make test-docs`"
    assert os.environ.get("ZMSG_REDIS_ADDR"), "ZMSG_REDIS_ADDR is not set; run this with `make test-docs`"
    name = f"zmsg_docs_{uuid.uuid4().hex}"
    with zmsg.sync.Zmsg.open(postgres_dsn=dsn, redis_addr=None) as zm:
        zm.sql_exec(zmsg.sql(f"CREATE DATABASE {name}"))
        own = urlunsplit(urlsplit(dsn)._replace(path=f"/{name}"))
        yield {**os.environ, "ZMSG_POSTGRES_DSN": own, "ZMSG_NAMESPACE": name}
        zm.query(zmsg.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = ?", name))
        zm.sql_exec(zmsg.sql(f"DROP DATABASE {name}"))


def prepare_database(page: Path, environment: dict[str, str]) -> None:
    statements = [block for block in BLOCKS if block.page == page and block.language == "sql" and not block.marker]
    if not statements:
        return
    with zmsg.sync.Zmsg.open(postgres_dsn=environment["ZMSG_POSTGRES_DSN"], redis_addr=None) as zm:
        for number, block in enumerate(statements):
            zm.load_sql(block.text, name=f"{number:04}.sql").migrate()


def check(session: list[Block], argv: list[str], folder: Path, environment: dict[str, str], stdin: str = "") -> None:
    """Runs a program and compares what it prints with what its comments say."""
    text = "\n".join(block.text for block in session)
    expected = [line.strip() for line in EXPECTATION.findall(text)]
    assert expected or "assert" in text, (
        f"{session[0].place}: a program shows what it does by `-> text` or an assertion"
    )
    (folder / "schema").symlink_to(ROOT / "schema")
    prepare_database(session[0].page, environment)
    done = subprocess.run(
        argv, input=stdin, env=environment, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr
    assert [line.strip() for line in done.stdout.splitlines()] == expected, done.stderr


@pytest.mark.parametrize("session", sessions("python"), ids=at_place)
def test_python(session: list[Block], tmp_path: Path, environment: dict[str, str]) -> None:
    page = str(session[0].page)
    check(session, [sys.executable, "-X", "utf8", "-c", RUN_PYTHON, page], tmp_path, environment, program(session))


@pytest.mark.parametrize("session", sessions("js"), ids=at_place)
def test_node(session: list[Block], tmp_path: Path, environment: dict[str, str]) -> None:
    assert (ROOT / "node" / "dist" / "index.js").exists(), "the Node package is not built; run `make build-node`"
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "zmsg").symlink_to(ROOT / "node")
    script = tmp_path / f"{session[0].page.stem}.mjs"
    script.write_text(program(session), encoding="utf-8")
    check(session, ["node", str(script)], tmp_path, environment)


@pytest.mark.parametrize("block", [it for it in BLOCKS if it.language == "yaml" and not it.marker], ids=at_place)
def test_yaml(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("ZMSG_")]:
        monkeypatch.delenv(name)
    file = tmp_path / "zmsg.yaml"
    file.write_text(block.text, encoding="utf-8")
    zmsg.load_config(str(file))


@pytest.mark.parametrize("block", [it for it in BLOCKS if it.language == "sh" and not it.marker], ids=at_place)
def test_sh(block: Block) -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for line in block.text.splitlines():
        words = shlex.split(line, comments=True)
        assert words[:1] == ["make"], f"{block.place}: only `make` is checked; mark the block if it runs something else"
        goals = [word for word in words[1:] if "=" not in word]
        assert goals, f"{block.place}: {line!r} names no target"
        assert targets.issuperset(goals), f"{block.place}: there is no target {sorted(set(goals) - targets)}"


@pytest.mark.parametrize("block", [it for it in BLOCKS if it.language == "rust" and not it.marker], ids=at_place)
def test_rust_is_run_by_cargo(block: Block) -> None:
    included = (ROOT / "core" / "src" / "lib.rs").read_text(encoding="utf-8")
    page = block.page.relative_to(ROOT).as_posix()
    assert f'include_str!("../../{page}")' in included, f"{block.place}: core/src/lib.rs does not include this page"


@pytest.mark.parametrize("block", BLOCKS, ids=at_place)
def test_every_block_is_accounted_for(block: Block) -> None:
    assert block.language in KNOWN, (
        f"{block.place}: {block.language!r} is not a language that is run: {', '.join(KNOWN)}"
    )


def test_the_blocks_were_found() -> None:
    languages = {block.language for block in BLOCKS if block.page.name == "README.md" and not block.marker}
    assert {"python", "js", "rust", "yaml", "sh"} <= languages
