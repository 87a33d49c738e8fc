"""The page *All options*: every flag of every command, read from the signatures of the package."""

from api import escaped

from aggan.commands.parsing import Group, describe_option, plain, show, typed_as
from aggan.commands.settings import experiment_groups
from aggan.commands.signatures import REQUIRED, Option, method_sources
from aggan.reproduction.command_line import COMMANDS, about, own_group

EMPTY = (None, "", (), {})  # defaults that a reader learns nothing from


def default_text(option: Option, hint: str | None) -> str:
    """The default of an option as one would type it; a hint tells those of a profile."""
    if hint is not None:
        return hint.strip("()")
    if option.default is REQUIRED:
        return "required"
    return "" if option.default in EMPTY else show(option.default)


def rows(group: Group) -> str:
    """A group of options as a Markdown table."""
    lines = ["| option | value | default | meaning |", "|---|---|---|---|"]
    for option in group.options:
        default = default_text(plain(option), group.hints.get(option.name))
        cells = describe_option(option), default, option.help
        lines.append(f"| `{typed_as(option)}` | {' | '.join(map(escaped, cells))} |")
    return "\n".join(lines)


def page() -> str:
    """The page in Markdown."""
    parts = [
        "# All options",
        "`aggan COMMAND --help` lists the options of a command, `aggan train METHOD --help` those "
        "of a method, too. Notebooks of the paper take the same names as parameters.",
        "## Commands",
    ]
    for name, command in COMMANDS.items():
        group = own_group(command)
        parts += [f"### aggan {name}", about(command)] + [rows(group)] * bool(group.options)
    parts.append("## Experiments: data and profile")
    parts.append("Flags of `train`, `evaluate`, `explain` and `reproduce`.")
    for group in experiment_groups("demo"):
        parts += [f"### Options of the {group.title}", rows(group)]
    parts.append("## Methods")
    parts.append("Flags of `aggan train METHOD`, with the values of the profile `demo`.")
    for name, source in method_sources()[0].items():
        parts += [f"### {name}", source.about, rows(experiment_groups("demo", name)[-1])]
    return "\n\n".join(parts) + "\n"
