"""What every launcher does: reads launch.yaml and flags, and shows or does what is planned.

A launcher is a class of settings and a function that makes a `Plan` of them.
"""

import argparse
import dataclasses
import difflib
import inspect
import pathlib
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, NoReturn, get_args, get_origin

import entry_points
import yaml

from catid2_jax.constraints import Constraint, LocalPath, check_fields, field_hints
from catid2_jax.errors import InputError


def matches(words: str, pattern: str) -> Constraint:
    """Text that is empty or of a pattern."""
    return Constraint(words, lambda text: not text or bool(re.fullmatch(pattern, text)))


Name = Annotated[
    str,
    matches(
        "at most 40 lower-case letters, digits and hyphens, a letter first",
        r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?",
    ),
]
Project = Annotated[
    str,
    matches("the id of a project, such as my-project", r"([a-z0-9.-]+:)?[a-z][-a-z0-9]{4,28}\w"),
]
Zone = Annotated[str, matches("a zone, such as us-east5-b", r"[a-z]+-[a-z]+\d+-[a-z]")]
Bucket = Annotated[
    str, matches("the name of a bucket, without gs://", r"[a-z0-9][-_.a-z0-9]{1,61}[a-z0-9]")
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What all launchers take.

    Attributes:
        run: name of the run, and so of all that is made for it; the entry point's if empty.
        project: the Google Cloud project.
        zone: the zone, for Google Cloud.
        bucket: a Cloud Storage bucket, which is the folder /bucket for the entry point; empty for
            none.
        image: the container image that docker.py builds and GKE runs.
        output: folder for the files that are made; runs/launch/<run>/<launcher> if empty.
    """

    run: Name = ""
    project: Project = ""
    zone: Zone = ""
    bucket: Bucket = ""
    image: str = ""
    output: LocalPath = ""


@dataclasses.dataclass(frozen=True)
class Job:
    """What is to be run.

    Attributes:
        entry_point: its name; "logs" and "delete" for the run that was launched.
        arguments: its command line.
        name: the run's name.
    """

    entry_point: str
    arguments: tuple[str, ...]
    name: str


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a launcher does.

    Attributes:
        commands: run one after the other, until one fails. `{NAME}` in a word is the path of the
            file NAME.
        files: name -> text, written before.
    """

    commands: Sequence[Sequence[str]]
    files: Mapping[str, str] = dataclasses.field(default_factory=dict)


def launch(
    about: str,
    kind: type[Settings],
    make_plan: Callable[[Any, Job], Plan],
    run: Callable[[Plan], int] | None = None,
    also: Sequence[str] = ("logs", "delete"),
) -> NoReturn:
    """Runs a launcher.

    Args:
        about: the launcher's docstring.
        kind: its settings.
        make_plan: (settings, job) -> plan; raises InputError.
        run: what takes the place of running the commands, and returns an exit code.
        also: what there is beside the entry points.
    """
    launcher = pathlib.Path(sys.argv[0]).stem
    try:
        flags = _parser(about, kind, also).parse_args()
        settings = read_settings(kind, launcher, flags)
        # The name of a run is that of its entry point, unless it is given.
        name = settings.run or re.sub(r"[._]", "-", flags.entry_point)
        if not settings.run and flags.entry_point in also:
            raise InputError("--run", "none", "the name of the run, or its entry point's")
        if "--dry_run" in flags.arguments:
            raise InputError("--dry_run", "it behind the entry point", "it before the entry point")
        job = Job(flags.entry_point, tuple(flags.arguments), name)
        plan = make_plan(settings, job)
        folder = pathlib.Path(settings.output or f"runs/launch/{name}/{launcher}")
        paths = {file: str(folder / file) for file in plan.files}
        plan = dataclasses.replace(
            plan, commands=[[_filled(word, paths) for word in line] for line in plan.commands]
        )
        for file, text in plan.files.items():
            folder.mkdir(parents=True, exist_ok=True)
            pathlib.Path(paths[file]).write_text(text, encoding="utf-8")
            if flags.dry_run:
                print(f"==> {paths[file]} <==\n{text}")
        if flags.dry_run:
            for line in plan.commands:
                print("$", shlex.join(line))
            sys.exit(0)
        sys.exit((run or _run)(plan))
    except InputError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        print(f"error: {error.filename or 'output'}: found {error.strerror}", file=sys.stderr)
        sys.exit(2)


def _filled(word: str, paths: Mapping[str, str]) -> str:
    return paths.get(word[1:-1], word) if word[:1] == "{" and word[-1:] == "}" else word


def _run(plan: Plan) -> int:
    for line in plan.commands:
        try:
            process = subprocess.Popen(line)
        except FileNotFoundError as error:
            raise InputError("", f"no command {line[0]}", "it on PATH: docs/launch.md") from error
        # The command tidies up by itself; Ctrl-C goes to it from the terminal.
        signal.signal(signal.SIGINT, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda number, _, process=process: process.send_signal(number))
        code = process.wait()
        if code:
            return code if code > 0 else 128 - code
    return 0


def required(settings: Settings, *names: str) -> None:
    """Raises InputError for a setting that is needed and empty."""
    for name in names:
        if not getattr(settings, name):
            raise InputError(f"--{name}", "none", "it as a flag or in launch.yaml")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError("command line", message, "flags as --help says")


def _parser(about: str, kind: type[Settings], also: Sequence[str]) -> argparse.ArgumentParser:
    parser = _Parser(
        description=about,
        epilog="Everything after the entry point goes to it as it is.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--launch", help="a launch.yaml; a flag goes before what it says")
    parser.add_argument("--dry_run", action="store_true", help="write the files, and print all")
    texts = _texts(kind)
    for field in dataclasses.fields(kind):
        default = field.default if field.default_factory is dataclasses.MISSING else ()
        options: dict[str, Any] = {"help": f"{texts[field.name]} Default: {default!r}."}
        if isinstance(default, tuple):
            options |= {"action": "append"}
        elif isinstance(default, bool):
            options |= {"type": _truth, "metavar": "true|false"}
        else:
            options |= {"type": type(default)}
        parser.add_argument(f"--{field.name}", default=None, **options)
    known = (*entry_points.NAMES, *also)
    parser.add_argument("entry_point", choices=known, metavar="ENTRY_POINT", help=", ".join(known))
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="of the entry point")
    return parser


def _texts(kind: type) -> dict[str, str]:
    """Name of each field -> what the docstrings of its class and those above say."""
    found: dict[str, str] = {}
    for parent in reversed(kind.__mro__[:-1]):
        _, _, text = (inspect.getdoc(parent) or "").partition("Attributes:\n")
        for name, words in re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", text, re.MULTILINE):
            found[name] = " ".join(words.split()).replace("%", "%%")
    return found


def _truth(value: str) -> bool:
    if value not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"found {value!r}, expected true or false")
    return value == "true"


def read_settings(kind: type[Settings], launcher: str, flags: argparse.Namespace) -> Any:
    """The settings of a launcher: defaults, then launch.yaml, then flags.

    Raises:
        InputError: an unknown field, or a value of another type or out of its range.
    """
    found: dict[str, Any] = {}
    shared = [field.name for field in dataclasses.fields(Settings)]
    own = [field.name for field in dataclasses.fields(kind)]
    if flags.launch:
        given = _read_yaml(pathlib.Path(flags.launch))
        sections = [name for name in given if name in LAUNCHERS]
        _check_names(flags.launch, [n for n in given if n not in sections], [*shared, *LAUNCHERS])
        section = given.get(launcher) or {}
        if not isinstance(section, dict):
            raise InputError(f"{flags.launch}: {launcher}", repr(section), "fields")
        _check_names(f"{flags.launch}: {launcher}", section, own)
        found = {name: value for name, value in given.items() if name in own} | section
    for name in own:
        value = getattr(flags, name)
        if value is not None:
            found[name] = value
    hints = field_hints(kind)
    for name, value in found.items():
        if _is_tuple(hints[name]):
            found[name] = tuple(value) if isinstance(value, list | tuple) else value
    try:
        settings = kind(**found)
        check_fields(settings)
    except InputError as error:
        name = error.where
        from_file = getattr(flags, name, None) is None and flags.launch
        raise InputError(
            f"{flags.launch}: {name}" if from_file else f"--{name}", error.found, error.expected
        ) from error
    return settings


def _is_tuple(hint: Any) -> bool:
    return get_origin(hint) is tuple or (
        get_origin(hint) is Annotated and get_origin(get_args(hint)[0]) is tuple
    )


def _read_yaml(path: pathlib.Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(path, error.strerror, "a launch.yaml") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(path, f"no YAML ({error})", "a launch.yaml") from error
    if not isinstance(found, dict):
        raise InputError(path, repr(found), "fields, as in launch/launch.yaml")
    return found


def _check_names(where: str, names: Any, known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, 3) or known
            raise InputError(where, f"the field {name!r}", f"one of {', '.join(near)}")


LAUNCHERS = ("local", "slurm", "tpu_vm", "gke", "skypilot", "ray_train", "docker")
"""The scripts beside this one, and the sections of launch.yaml."""


class _Dumper(yaml.SafeDumper):
    """Lists indented, texts of several lines as they are, no anchors."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(str, _text)


def to_yaml(document: Mapping[str, Any]) -> str:
    """A document as YAML, its fields in the order that they were given."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=100, explicit_start=True)
