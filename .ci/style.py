#!/usr/bin/env python3
"""Counts departures from the style of CONTRIBUTING.md and fails where a count exceeds its limit.

Usage: .ci/style.py [--list=MEASURE] [--packages]

A measure passes if it reaches its target or does not exceed its limit. A limit above the target is the count of the
day when it was set: lower it with each improvement, never raise it. Needs Python 3.10 and nothing else.
"""

from __future__ import annotations

import argparse
import ast
import collections
import io
import pathlib
import re
import sys
import tokenize
from collections.abc import Iterable, Iterator
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parent.parent


class Limit(NamedTuple):
    """Goal of a measure (a share of the total if `share`), and the count that is allowed until it is reached."""

    target: float
    limit: int
    description: str
    share: bool = False


LIMITS = {
    "private-words": Limit(40, 0, "private words (WORDS) in code and documents"),
    "fragments": Limit(0.03, 0, "docstrings of fer/ and scripts/ that begin with a fragment", share=True),
    "test-names": Limit(0.03, 0, "test names other than test_<unit>_<behaviour>", share=True),
    "aliases": Limit(0, 0, "own modules imported under another name"),
    "folder-size": Limit(18, 0, "modules in the largest folder of fer/, without __init__.py"),
    "long-functions": Limit(0, 0, "functions of fer/ and scripts/ longer than 50 lines"),
    "parameters": Limit(0, 0, "functions of fer/ and scripts/ with more than 6 parameters"),
    "readme-lines": Limit(139, 0, "lines of README.md"),
    "docs-words": Limit(12_000, 0, "words of the English pages of docs/, without docs/results/"),
}
MAX_LINES = 50
MAX_PARAMETERS = 6

# Whole words, in any case, in comments, strings, docstrings and documents.
WORDS = (
    r"tell|tells|told|telling|said|seen|whoever|whom|rooms?|houses?|mend|mends|mended|mending|crews?|roll[ -]?calls?"
    r"|twins?|spools?|spooled|climbs|climbed|as it goes|no numbers? any ?more"
    r"|(?:the|a|an|of|these|those|what is|what was) kept"
)
# Parts of our own names of modules, classes, functions, parameters and variables. `seen` and `kept` are usual names of
# variables in Python; a class of that name is counted.
NAME_WORDS = set(
    "tell tells told said whoever whom room house mend mended crew twin twins spool climbed rollcall".split()
)
CLASS_WORDS = NAME_WORDS | {"seen", "kept"}
# These list the words themselves.
WORD_FILES = {".ci/style.py", "tests/test_style.py"}

# A docstring of a function begins with one of these verbs, in the imperative or with an s ("Return", "Returns").
VERBS = set(
    """
    accept acquire adapt add adjust aggregate align allocate allow answer append apply approximate ask assemble assert
    assign attach augment average begin benchmark bind blend blur build cache calculate calibrate call cancel cast
    catch center change check choose clamp classify clean clear clip close collect combine commit compare compile
    complete compose compress compute configure confirm connect construct consume contain continue convert copy
    correct corrupt count cover create crop cut cycle deal decode decompress decorate define delete derive describe
    detect determine disable discard dispatch display distort divide download draw drop duplicate emit enable encode
    end enforce ensure enter enumerate equalize erase escape estimate evaluate exclude execute exit expand export
    extend extract fail feed fetch fill filter find finish fit flatten flip flush fold follow forget format forward
    freeze gather generate get give group guess handle hash help hide hold identify ignore implement import include
    increment infer inherit initialise initialize insert inspect install interpolate invert iterate join keep kill
    label launch lay leave lend let limit link list listen load locate lock log look lower make map mark mask match
    measure merge mirror mix modify monitor move multiply name normalise normalize note notice notify observe open
    optimize order override pack pad paint parse partition pass patch perform permute pick place plan plot poll pool
    posterize predict prefetch prefix prepare print process produce profile project propose protect prove provide
    publish pull push put quantise quantize query quote raise rank reach read rebuild receive recognize record
    redirect reduce refuse register reject release reload remember remove rename render repair repeat replace report
    reproduce request require resample reserve reset reshape resize resolve respond restart restore restrict resume
    retrieve retry return reuse reverse rewrite roll rotate round run sample save scale scan schedule score search
    seed select send separate serialise serialize serve set shard sharpen shift shorten show shrink shuffle shut sign
    silence simulate skip sleep smooth solarize sort split spread stack start stitch stop store stream stretch strip
    style subtract suggest sum suppress swap switch sync synchronize take test tokenize touch train transfer transform
    translate traverse treat trim truncate try tune turn understand undo unpack update upload use validate verify
    visit visualize wait walk warm warn watch wrap write yield zoom
    """.split()
)
# Verbs whose third person is also a plural noun. With one of FOLLOWERS behind it, such a word is the noun.
NOUNS = set(
    """
    answers benchmarks bounds builds calls casts changes checks copies counts crops cuts draws exports figures filters
    flips folds groups imports inserts labels limits links lists loads logs maps marks masks matches measures names
    notes notices orders pads patches plans plots ranks reads records removes reports requests rounds runs samples
    scales scores searches seeds sets shards shifts shows signs splits starts stores tests transforms updates uses
    weights writes
    """.split()
)
FOLLOWERS = set("of by is are was were".split())
# A docstring of a module, a class or a property may be a noun phrase, but does not begin with one of these.
QUESTIONS = set(
    """
    as at by everything for from how if in it its of on once some something than that there these those to under until
    what when where whether which who whom whose why with within
    """.split()
)

# A test name does not begin with one of these: its unit is not named.
NO_UNIT = set(
    """
    a all an another any are as at both by each every everything few for from how if in is it its many more no none
    not nothing of on only other same several some than that the their then there these they this those to too what
    when where which who whoever whose why with without
    """.split()
)
PASSIVE_ENDINGS = re.compile(r"_(?:is|are|was|were|as)_(?:a_sentence|named|told|refused)(?:_|$)|_a_sentence(?:_|$)")
# Units that are no module, class, function, parameter, flag or config field of ours: concepts of the field and files.
CONCEPTS = set(
    """
    accuracy agreement alteration archive arithmetic array audit augmentation augmenter auto axes axis backbone
    backslash batch benchmark bmp bundle card certainty checkpoint citation class classifier cli cluster colour column
    command comparison config contributing conversion converter csv cutmix data dataset demo detector device docker
    dockerfile docs document dropout ece efficiency ensemble epoch erasing error evaluation event example exif export
    face feature ferplus figure file filesystem flag folder font gallery glossary gpu gradient graph grey gzip hash
    hdf5 head help histogram hook host html image imagenet import input interval job journal jpeg json kappa keras
    kernel label lamb layer leak leakage license link lock lockfile logit lookahead loss makefile manifest mask matrix
    member memory metric mirror mixup model module nan network notebook npz number onnx op optimizer option output
    package page pair parser path photo pickle picture pipe pipeline pixel plot png policy posterize precision
    prediction probability process program progress protocol pytorch readme record release replica report repository
    request result roc roc_auc rotation row run sagemaker sample schema script seed server sgd shard signal slurm
    socket source split statistics step storage store strategy stream sweep synthetic table tar target teacher
    temperature tencrop tensor tensorboard tensorflow test text tfa tflite tfrecord thread threshold timeout token
    tone train trainer training trial update url user value variable version video vote warning weight wheel window
    workdir worker workers workflow xla zip
    """.split()
)


class Finding(NamedTuple):
    """A departure: its measure, its file and line, and the text concerned."""

    measure: str
    path: str
    line: int
    text: str

    @property
    def package(self) -> str:
        """Package of the file: two folders within fer/ and tests/, else one."""
        parts = pathlib.PurePath(self.path).parts
        depth = min(2 if parts[0] in ("fer", "tests") else 1, len(parts) - 1)
        return "/".join(parts[:depth]) or parts[0]


class Source(NamedTuple):
    """A Python file with its syntax tree."""

    path: str
    text: str
    tree: ast.Module


def words_of(name: str) -> list[str]:
    """Splits an identifier in snake case or camel case into lower-case words."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z0-9]+|[A-Z]+", name)]


def private_words(text: str) -> list[str]:
    """Returns the private words in a text, in order."""
    return [match.group().lower() for match in re.finditer(rf"\b(?:{WORDS})\b", " ".join(text.split()), re.IGNORECASE)]


def python_words(source: Source) -> Iterator[tuple[int, str]]:
    """Yields line and word for each private word in strings, comments and names of a Python file."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from ((node.lineno, word) for word in private_words(node.value))
        elif isinstance(node, ast.ClassDef):
            yield from ((node.lineno, word) for word in words_of(node.name) if word in CLASS_WORDS)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from ((node.lineno, word) for word in words_of(node.name) if word in NAME_WORDS)
        elif isinstance(node, ast.arg):
            yield from ((node.lineno, word) for word in words_of(node.arg) if word in NAME_WORDS)
    variables = {
        node.id: node.lineno
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    yield from ((line, word) for name, line in variables.items() for word in words_of(name) if word in NAME_WORDS)
    yield from ((1, word) for word in words_of(pathlib.PurePath(source.path).stem) if word in CLASS_WORDS)
    for token in tokenize.generate_tokens(io.StringIO(source.text).readline):
        if token.type == tokenize.COMMENT:
            yield from ((token.start[0], word) for word in private_words(token.string))


def is_verb(docstring: str) -> bool:
    """Returns whether the first word of a docstring is a verb of `VERBS`, in the imperative or the third person."""
    words = re.findall(r"[\w'`.-]+", docstring)[:2]
    if not words or not re.fullmatch(r"[A-Z][a-z]+", words[0]):
        return False
    first = words[0].lower()
    bases = {first, re.sub(r"s$", "", first), re.sub(r"es$", "", first), re.sub(r"ies$", "y", first)}
    if not bases & VERBS:
        return False
    return not (first in NOUNS and words[-1].lower() in FOLLOWERS)


def is_fragment(node: ast.AST, docstring: str) -> bool:
    """Returns whether a docstring begins with a fragment.

    The docstring of a function or method begins with a verb. That of a module, a class or a property may be a noun
    phrase, and does not begin with a word of `QUESTIONS`.
    """
    decorators = [ast.dump(each) for each in getattr(node, "decorator_list", [])]
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not any("property" in each for each in decorators):
        return not is_verb(docstring)
    return (re.findall(r"[\w']+", docstring) or [""])[0].lower() in QUESTIONS


def docstrings(source: Source) -> Iterator[tuple[ast.AST, int, str]]:
    """Yields node, line and text of each docstring of a file."""
    for node in ast.walk(source.tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node)
            if text:
                yield node, node.body[0].lineno, text


def functions(source: Source) -> Iterator[ast.FunctionDef]:
    """Yields each function and method of a file."""
    for node in ast.walk(source.tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


def test_functions(source: Source) -> Iterator[ast.FunctionDef]:
    """Yields each test function of a file."""
    return (node for node in functions(source) if node.name.startswith("test_"))


def units(sources: Iterable[Source]) -> set[str]:
    """Returns the units that a test name may begin with, in snake case.

    These are our modules, classes, functions, fields and flags, and `CONCEPTS`. Leading underscores are left out.
    """
    names = set(CONCEPTS)
    for source in sources:
        names.update(pathlib.PurePath(source.path).with_suffix("").parts)
        for node in ast.walk(source.tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                names.add(node.name.strip("_"))
            elif isinstance(node, ast.ClassDef):
                names.add("_".join(words_of(node.name)))
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                names.add(node.target.id)
            elif isinstance(node, ast.Call) and ast.unparse(node.func).startswith(("flags.DEFINE", "DEFINE")):
                names.update(str(each.value) for each in node.args[:1] if isinstance(each, ast.Constant))
    return {name.lower() for name in names} - NO_UNIT


def names_unit(name: str, known: set[str]) -> bool:
    """Returns whether a test name follows the rule.

    `test_<unit>_<behaviour>`: at least two words follow `test_`; a unit (its plural too) begins at the first or, behind
    adjectives, the second or third word; no word before it is in `NO_UNIT`, but a longer unit may
    begin with one (`is_verb`); nothing in the name matches `PASSIVE_ENDINGS`.
    """
    words = name[len("test_") :].split("_")
    if len(words) < 2 or PASSIVE_ENDINGS.search(name):
        return False
    for start in range(min(3, len(words))):
        for end in range(start + 1, min(start + 5, len(words)) + 1):
            unit = "_".join(words[start:end])
            if {unit, re.sub(r"s$", "", unit), re.sub(r"es$", "", unit), re.sub(r"ies$", "y", unit)} & known:
                return True
        if words[start] in NO_UNIT:
            return False
    return False


def module_aliases(source: Source) -> Iterator[tuple[int, str]]:
    """Yields line and text of each import of one of our modules under another name."""
    for node in ast.walk(source.tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            prefix = node.module + "." if isinstance(node, ast.ImportFrom) and node.module else ""
            for alias in node.names:
                path = ROOT / (prefix + alias.name).replace(".", "/")
                if alias.asname not in (None, alias.name) and (path.is_dir() or path.with_suffix(".py").is_file()):
                    yield node.lineno, ast.unparse(node)


def python_sources() -> list[Source]:
    """Reads the Python files of the project."""
    folders = (".ci", "fer", "scripts", "tests", "configs", "docs")
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    sources = []
    for path in sorted([*paths, ROOT / "setup.py"]):
        text = path.read_text(encoding="utf-8")
        sources.append(Source(path.relative_to(ROOT).as_posix(), text, ast.parse(text)))
    return sources


def text_files() -> dict[str, str]:
    """Reads the documents and other text files, without the recorded pages in docs/results/."""
    patterns = [
        *("*.md", "Makefile", "Dockerfile", "*.toml", "*.cff", "*.in"),
        *(".ci/*", ".github/**/*.*", ".pre-commit-config.yaml"),
        *("docs/**/*.md", "docs/*.ipynb", "tfrecords/README.md", "fer/**/*.md"),
        *("fer/**/*.html", "fer/**/*.css", "fer/**/*.js", "fer/**/*.schema.json"),
    ]
    paths = {path for pattern in patterns for path in ROOT.glob(pattern) if path.is_file() and path.suffix != ".py"}
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in sorted(paths)}


def find_in_python(sources: list[Source]) -> Iterator[Finding]:
    """Yields the departures in Python files."""
    own = [source for source in sources if source.path.startswith(("fer/", "scripts/"))]
    for source in sources:
        if source.path not in WORD_FILES:
            yield from (Finding("private-words", source.path, line, word) for line, word in python_words(source))
        yield from (Finding("aliases", source.path, line, text) for line, text in module_aliases(source))
    for source in own:
        for node, line, text in docstrings(source):
            if is_fragment(node, text):
                yield Finding("fragments", source.path, line, text.splitlines()[0])
        for node in functions(source):
            length, parameters = node.end_lineno - node.lineno + 1, count_parameters(node)
            if length > MAX_LINES:
                yield Finding("long-functions", source.path, node.lineno, f"{node.name}: {length} lines")
            if parameters > MAX_PARAMETERS:
                yield Finding("parameters", source.path, node.lineno, f"{node.name}: {parameters} parameters")
    known = units([*own, *(source for source in sources if source.path.startswith(".ci/"))])
    for source in sources:
        if source.path.startswith("tests/"):
            for node in test_functions(source):
                if not names_unit(node.name, known):
                    yield Finding("test-names", source.path, node.lineno, node.name)


def count_parameters(node: ast.FunctionDef) -> int:
    """Counts the parameters of a function without self and cls."""
    names = [each.arg for each in [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]]
    return len([name for name in names if name not in ("self", "cls")])


def count_words(text: str) -> int:
    """Counts words: runs without white space that hold a letter or a digit."""
    return sum(any(character.isalnum() for character in word) for word in text.split())


def measure(sources: list[Source], files: dict[str, str]) -> tuple[list[Finding], dict[str, int], dict[str, int]]:
    """Returns all departures, the count of each measure, and the totals that shares refer to."""
    findings = list(find_in_python(sources))
    for path, text in files.items():
        for number, line in enumerate(text.splitlines(), 1):
            findings += [Finding("private-words", path, number, word) for word in private_words(line)]
    counts = dict.fromkeys(LIMITS, 0)
    counts.update(collections.Counter(finding.measure for finding in findings))
    folders = collections.Counter(
        str(pathlib.PurePath(source.path).parent)
        for source in sources
        if source.path.startswith("fer/") and not source.path.endswith("__init__.py")
    )
    findings += [Finding("folder-size", f"{name}/", 0, f"{size} modules") for name, size in folders.most_common()]
    pages = [
        path
        for path in files
        if re.fullmatch(r"docs/.+\.md", path) and not path.endswith(".ru.md") and not path.startswith("docs/results/")
    ]
    findings += [Finding("docs-words", path, 0, f"{count_words(files[path])} words") for path in pages]
    counts["folder-size"] = max(folders.values())
    counts["readme-lines"] = len(files["README.md"].splitlines())
    counts["docs-words"] = sum(count_words(files[path]) for path in pages)
    own = [source for source in sources if source.path.startswith(("fer/", "scripts/"))]
    totals = {
        "fragments": sum(1 for source in own for _ in docstrings(source)),
        "test-names": sum(1 for source in sources if source.path.startswith("tests/") for _ in test_functions(source)),
    }
    return findings, counts, totals


def print_table(counts: dict[str, int], totals: dict[str, int]) -> list[str]:
    """Prints each measure with its count, limit and target. Returns the measures that fail."""
    failed = []
    print(f"{'measure':15} {'count':>6} {'share':>7} {'limit':>6} {'target':>7}")
    for name, limit in LIMITS.items():
        count, total = counts[name], totals.get(name, 0)
        share = f"{count / total:.1%}" if total else ""
        target = f"< {limit.target:.0%}" if limit.share else f"{limit.target:.0f}"
        reached = not count or (count < limit.target * total if limit.share else count <= limit.target)
        status = "" if reached else "above target" if count <= limit.limit else "FAILS"
        figures = f"{name:15} {count:6} {share:>7} {limit.limit or '':>6} {target:>7}"
        print(f"{figures}  {limit.description}  {status}".rstrip())
        if status == "FAILS":
            failed.append(name)
    return failed


def print_packages(findings: list[Finding]) -> None:
    """Prints the counts of each package as a table."""
    measures = [name for name in LIMITS if name not in ("folder-size", "readme-lines", "docs-words")]
    counts = collections.Counter((finding.package, finding.measure) for finding in findings)
    print(f"\n{'package':20}" + "".join(f"{name:>16}" for name in measures))
    for package in sorted({package for package, name in counts if name in measures}):
        print(f"{package:20}" + "".join(f"{counts[package, name] or '':>16}" for name in measures))


def main() -> int:
    """Prints the table. Returns 1 if a measure exceeds its limit, else 0."""
    parser = argparse.ArgumentParser(description="Counts departures from the style of CONTRIBUTING.md.")
    parser.add_argument("--list", choices=LIMITS, default="", help="print each finding of this measure")
    parser.add_argument("--packages", action="store_true", help="print the counts of each package")
    arguments = parser.parse_args()
    findings, counts, totals = measure(python_sources(), text_files())
    for finding in findings:
        if finding.measure == arguments.list:
            print(f"{finding.path}:{finding.line}: {finding.text}")
    failed = print_table(counts, totals)
    if arguments.packages:
        print_packages(findings)
    for name in failed:
        print(f"{name}: {counts[name]} exceed the limit; .ci/style.py --list={name} lists them.", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
