"""What the plugin reads from, and rewrites in, a host's command line."""

import difflib
import os
import sys

from diff3r_startup import ENVIRONMENT, FLAG, NAME, OFF

KNOWN = (NAME,)


def strip_flag(arguments: list) -> "str | None":
    """Remove every ``--plugin NAME`` / ``--plugin=NAME`` of a known plugin, in place; return the name if there was one.

    Names that are not ours stay where they are: the program may have an option of the same name. `refuse_unknown`
    reports them once it is certain that the program is a host.

    >>> arguments = ["-m", "+experiment=re10k", "--plugin", "diff3r", "mode=test"]
    >>> strip_flag(arguments), arguments
    ('diff3r', ['-m', '+experiment=re10k', 'mode=test'])
    """
    found, kept, position = None, [], 0
    while position < len(arguments):
        argument = arguments[position]
        following = arguments[position + 1] if position + 1 < len(arguments) else None
        if argument == FLAG and following in KNOWN:
            found, position = following, position + 2
        elif argument.startswith(FLAG + "=") and argument[len(FLAG) + 1 :] in KNOWN:
            found, position = argument[len(FLAG) + 1 :], position + 1
        else:
            kept.append(argument)
            position += 1
    if found is not None:
        arguments[:] = kept
        strip_flag(arguments)  # what stood around a flag may form another one
    return found


def force_overrides(arguments: list) -> None:
    """Let ``diff3r.key=value`` pass Hydra's struct check by writing it ``++diff3r.key=value``, in place.

    ``++`` adds the key or changes it where a config file has it already; arguments that carry a sign are left alone,
    so that a command line which went through this function once is not changed a second time.

    >>> arguments = ["main.py", "diff3r.inner_steps=3", "+diff3r.backend=torch", "mode=test"]
    >>> force_overrides(arguments); arguments
    ['main.py', '++diff3r.inner_steps=3', '+diff3r.backend=torch', 'mode=test']
    """
    for position, argument in enumerate(arguments):
        if argument.startswith(NAME + ".") and "=" in argument:
            arguments[position] = "++" + argument


def override_value(arguments: list, key: str) -> "str | None":
    """The last value given for ``diff3r.key`` on a command line, whatever sign it carries."""
    value = None
    for argument in arguments:
        name, equals, text = argument.lstrip("+").partition("=")
        if equals and name == f"{NAME}.{key}":
            value = text
    return value


def active() -> bool:
    """Whether ``DIFF3R_PLUGIN`` asks for the plugin."""
    return os.environ.get(ENVIRONMENT, "").strip().lower() not in OFF


def refuse_settings(arguments: list) -> None:
    """Stop with one clear message when there are settings of the plugin, but the plugin is not asked for.

    Raises:
        SystemExit: naming the setting, and both ways out.
    """
    for argument in arguments:
        if argument.lstrip("+").startswith(NAME + ".") and "=" in argument:
            sys.exit(
                f"diff3r: {argument.lstrip('+')} is a setting of the plugin, which was not asked for: add "
                f"{FLAG} {NAME}, or leave the setting out. Nothing was run."
            )


def refuse_unknown(arguments: list) -> None:
    """Stop with one clear message when the flag or ``DIFF3R_PLUGIN`` names a plugin that does not exist, or none.

    Raises:
        SystemExit: naming the value, the known plugins and the nearest of them; a setting without the flag likewise.
    """
    if ENVIRONMENT not in os.environ and not any(a == FLAG or a.startswith(FLAG + "=") for a in arguments):
        refuse_settings(arguments)
    names = []
    for position, argument in enumerate(arguments):
        if argument == FLAG:
            names.append((FLAG, arguments[position + 1] if position + 1 < len(arguments) else ""))
        elif argument.startswith(FLAG + "="):
            names.append((FLAG, argument[len(FLAG) + 1 :]))
    if active():
        names.append((ENVIRONMENT, os.environ[ENVIRONMENT].strip()))
    for source, name in names:
        if source == FLAG and (not name or name.startswith("-") or "=" in name):
            sys.exit(f"diff3r: {FLAG} needs a name: {FLAG} {NAME}. Nothing was run.")
        if name not in KNOWN:
            near = difflib.get_close_matches(name, KNOWN, n=1, cutoff=0.5)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            sys.exit(
                f"diff3r: unknown plugin {name!r} given by {source}; known plugins: {', '.join(KNOWN)}.{hint}"
                " Nothing was run."
            )
