"""The commands: name, group and function of each. Its function's signature and docstring say everything else."""

from dataclasses import dataclass

WORKFLOW, DATA, NETWORKS, OBJECTS, RESULTS, ONE_CALL, ABOUT = GROUPS = (
    "From file to report",
    "Scans and datasets",
    "Networks",
    "Reconstruction",
    "Results",
    "Other programs",
    "Configuration and documentation",
)
"""Groups of the command list, in the order in which it shows them."""


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        name: one word, or two of which the first is a family of commands.
        function: ``module:function`` in this package; imported when the command runs.
        group: heading in the command list.
        file_argument: name of the argument that gives ``source.file``, in commands that read a measurement.
    """

    name: str
    function: str
    group: str
    file_argument: str | None = None


FAMILIES = {
    "dataset": ("Label or verify a dataset.", DATA),
    "models": ("List and show pretrained networks.", NETWORKS),
    "config": ("Show, check, explain and translate configurations.", ABOUT),
    "docs": ("Write the generated pages of the documentation.", ABOUT),
}
"""Summary and group of the families of commands."""

COMMANDS = {
    command.name: command
    for command in (
        Command("run", "cli.run_command:run", WORKFLOW),
        Command("watch", "cli.watch_command:watch", WORKFLOW),
        Command("status", "cli.watch_command:status", WORKFLOW),
        Command("clean", "cli.watch_command:clean", WORKFLOW),
        Command("init", "cli.run_command:init", WORKFLOW),
        Command("doctor", "cli.doctor:doctor", WORKFLOW),
        Command("simulate", "commands.simulate:simulate", DATA),
        Command("convert", "commands.convert:convert", DATA),
        Command("inspect", "commands.inspect_file:inspect", DATA, file_argument="file"),
        Command("pack", "commands.pack:pack", DATA),
        Command("dataset label", "commands.label:label", DATA),
        Command("dataset verify", "commands.verify:verify", DATA),
        Command("train", "commands.train:train", NETWORKS),
        Command("infer", "commands.infer:infer", NETWORKS),
        Command("stitch", "commands.stitch:stitch", NETWORKS),
        Command("reconstruct", "commands.reconstruct:reconstruct", NETWORKS),
        Command("pretrain", "commands.pretrain:pretrain", NETWORKS),
        Command("models list", "commands.models:list_models", NETWORKS),
        Command("models show", "commands.models:show_model", NETWORKS),
        Command("refine", "commands.refine:refine", OBJECTS),
        Command("evaluate", "commands.evaluate:evaluate", RESULTS),
        Command("sweep", "commands.sweep:sweep", RESULTS),
        Command("report", "commands.report:report", RESULTS),
        Command("compare", "commands.compare:compare", RESULTS),
        Command("export", "commands.export:export", ONE_CALL),
        Command("import", "commands.import_model:import_model", ONE_CALL),
        Command("run-directory", "commands.run_directory:run_directory", ONE_CALL, file_argument="input"),
        Command("ptychodus", "plugins.ptychodus.launcher:launch", ONE_CALL),
        Command("config show", "cli.config_command:show", ABOUT),
        Command("config validate", "cli.config_command:validate", ABOUT),
        Command("config explain", "cli.config_command:explain", ABOUT),
        Command("config migrate", "cli.config_command:migrate", ABOUT),
        Command("config mapping", "cli.config_command:mapping", ABOUT),
        Command("config reference", "cli.settings_reference:reference", ABOUT),
        Command("config schema", "cli.settings_reference:schema", ABOUT),
        Command("docs gallery", "commands.gallery:gallery", ABOUT),
        Command("docs commands", "cli.commands_reference:commands", ABOUT),
    )
}
"""Every command by name, in the order of the command list."""
