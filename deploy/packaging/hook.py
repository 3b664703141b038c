"""The build hook that hatchling calls (`pyproject.toml` names it).

A wheel gets each module as `deploy.packaging.namespace` moves it. Which files are in it, and where, is written in
`pyproject.toml`: this hook replaces their content only.

An editable installation is a path to the tree. There the packages keep their names, and `alipay_notify` is two small
modules that lead to them.
"""

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.builders.wheel import WheelBuilderConfig

sys.path.insert(0, str(Path(__file__).parents[2]))  # hatchling loads this file by its path
from deploy.packaging import namespace

# The modules under `alipay_notify` in an editable installation.
IN_THE_TREE = {
    "__init__.py": '''"""In a source tree: `alipay_notify.events` is `schemas/consumer/events.py`."""

import schemas.consumer as _consumer

__path__ = [*__path__, *_consumer.__path__]
''',
    "deploy/cli/main.py": '''"""In a source tree: the program is `deploy.cli.main`."""

from deploy.cli.main import main as main
''',
}


class NamespaceHook(BuildHookInterface[WheelBuilderConfig]):
    """Replace the modules of the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the modules into a folder outside of the tree, and have the build take them from there.

        Raises:
            NotMovable: naming the file; the build then fails.
        """
        self._folder = Path(tempfile.mkdtemp(prefix="alipay-notify-build-"))
        if version == "editable":
            texts = {f"{namespace.NAMESPACE}/{path}": text for path, text in IN_THE_TREE.items()}
            build_data["force_include_editable"] = self._write(texts)
        else:
            build_data["force_include"].update(self._write(self._moved()))

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the folder."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _moved(self) -> dict[str, str]:
        """Return the new text of each module by its path in the wheel."""
        files = [
            each for each in self.build_config.builder.recurse_selected_project_files() if each.path.endswith(".py")
        ]
        modules = {_dotted(each.relative_path) for each in files}
        texts = {}
        for each in files:
            try:
                text = namespace.moved(Path(each.path).read_text(encoding="utf-8"), modules=modules)
            except namespace.NotMovable as error:
                raise namespace.NotMovable(f"{each.relative_path}: {error}") from None
            texts[each.distribution_path] = text
        return texts

    def _write(self, texts: dict[str, str]) -> dict[str, str]:
        """Write the texts. Return where each file is, and its path in the wheel."""
        for path, text in texts.items():
            file = self._folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        return {str(self._folder / path): path for path in sorted(texts)}


def _dotted(path: str) -> str:
    return path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
