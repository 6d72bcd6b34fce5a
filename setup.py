"""Puts the root folders that a wheel carries (templates, docker, the sample pipeline) inside the package.

Everything else is in pyproject.toml.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
CARRIED = {
    "templates": "templates",
    "docker": "docker",
    "sample/dsflow.yml": "dsflow.yml",
    "sample/jobs": "jobs",
    "sample/datastore/published": "datastore/published",
}


class BuildWithData(build_py):
    """Copies the carried folders; an editable install finds them in the checkout instead."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        for inside, source in CARRIED.items():
            target = Path(self.build_lib, "dsflow", inside)
            target.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, target, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
            else:
                shutil.copy2(ROOT / source, target)


setup(cmdclass={"build_py": BuildWithData})
