"""Write the lock file of an environment: all wheels that pip installs on Linux, x86-64, Python 3.11, by checksum.

    python envs/lock.py envs/gpu.yaml envs/analysis.yaml

Run it on such a system after a change of versions. Nothing is installed; of a wheel only its metadata is downloaded
where the index offers it separately.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

HERE = Path(__file__).parent
HEAD = """# Written by envs/lock.py. Linux, x86-64, Python 3.11:
#   pip install --no-deps --require-hashes --requirement {path}
"""


def lock(environment: Path) -> Path:
    """Resolve the pip part of an environment within the constraints.

    Returns:
        The file, ``NAME.linux-64.lock.txt``.

    Raises:
        subprocess.CalledProcessError: if versions conflict or a wheel is not available.
    """
    wanted = yaml.safe_load(environment.read_text())["dependencies"][-1]["pip"]
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        command = ["pip", "--isolated", "install", "--dry-run", "--quiet", "--ignore-installed", "--only-binary=:all:"]
        command += ["--constraint", HERE / "constraints.txt", "--report", report.name, *wanted]
        subprocess.run([sys.executable, "-m", *command], check=True)
        lines = [_line(wheel) for wheel in json.load(report)["install"]]
    path = environment.with_suffix(".linux-64.lock.txt")
    path.write_text(HEAD.format(path=f"envs/{path.name}") + "\n".join(sorted(lines, key=str.lower)) + "\n")
    return path


def _line(wheel: dict) -> str:
    name, version = (wheel["metadata"][key] for key in ("name", "version"))
    return f"{name}=={version} --hash=sha256:{wheel['download_info']['archive_info']['hashes']['sha256']}"


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        print(lock(Path(argument)))
