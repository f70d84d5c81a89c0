"""Put the folders `config` and `models` into the wheel; all else about the package is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SHIPPED = ("config", "models")
ROOT = Path(__file__).resolve().parent


class BuildWithSite(build_py):
    """Copies the folders to `dwcp_stream/shipped`, where `dwcp_stream.settings` looks for them."""

    def run(self) -> None:
        """Build, then copy; an editable install uses the folders where they are."""
        super().run()
        if self.editable_mode:
            return
        for name in SHIPPED:
            target = Path(self.build_lib, "dwcp_stream", "shipped", name)
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(
                ROOT / name, target, ignore=shutil.ignore_patterns("history.jsonl", ".tmp-*", ".tuning", ".*")
            )


setup(cmdclass={"build_py": BuildWithSite})
