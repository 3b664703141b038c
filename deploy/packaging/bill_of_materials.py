"""Write the software bill of materials of the image, in CycloneDX's JSON: each package of its lock, with its hashes.

    python -m deploy.packaging.bill_of_materials      which `make lock` calls

`cyclonedx-py` writes it, without a time or a random number, so that the same lock always gives the same file. It lists
the packages that the lock can install: the image has those without a marker, or whose marker is true on Linux. Packages
of the base image are not in it.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "deploy" / "compose" / "requirements.lock"
FILE = LOCK.with_name("sbom.cdx.json")
_OPTIONS = ("--output-reproducible", "--spec-version", "1.6", "--output-format", "JSON")


def written() -> str:
    """Return the text of the bill of materials.

    Raises:
        subprocess.CalledProcessError: cyclonedx-py cannot read the lock.
    """
    program = Path(sys.executable).with_name("cyclonedx-py")
    argv = (str(program), "requirements", *_OPTIONS, "--pyproject", str(ROOT / "pyproject.toml"), str(LOCK))
    done = subprocess.run(argv, capture_output=True, text=True, check=True)  # noqa: S603 - no argument is from outside
    bill: dict[str, Any] = json.loads(done.stdout)
    for component in bill["components"]:
        del component["description"]  # the lines of the lock once more, with all hashes
        # The files are the same, wherever they come from; and the address of a private index may have a password.
        for reference in component["externalReferences"]:
            reference["url"] = component["purl"]
        component["bom-ref"] = component["purl"]  # instead of a line's number, which changes with the lines above
    # Only its name and version, without its own addresses.
    tools = bill["metadata"]["tools"]["components"]
    bill["metadata"]["tools"]["components"] = [
        {key: tool[key] for key in ("type", "name", "version")} for tool in tools
    ]
    # Empty, because a lock does not say what a package requires. Without the field that is unknown, as it should be.
    del bill["dependencies"]
    return json.dumps(bill, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    FILE.write_text(written(), encoding="utf-8")
